"""The runtime's own messages in the function's log.

A function may replace or close sys.stderr, sys.stdout and descriptors 1 and 2. It may also redirect them for one call,
whose output must not contain messages about another. So the runtime writes to a descriptor of its own. Before each
write it checks that the descriptor is still the log: the function may have closed it, and a client's connection may
have its number now. Writing never fails and never waits for long; a message without room is lost.
"""

from __future__ import annotations

import fcntl
import os
import select
from contextlib import suppress
from traceback import format_exception

from rescoldo.runtime.hiding import advice

MOST = 64 * 2**10  # bytes of one message; a longer one keeps its end, where a traceback names the error
_PIECE = select.PIPE_BUF  # bytes; a pipe with room takes this much at once
_PATIENCE = 100  # ms to wait for room; 0 after a timeout until a write succeeds: the node may read too slowly
STANDARD = 3  # lower descriptors are the standard streams


class Journal:
    """Writes to the log of this process's function."""

    __slots__ = ("_identity", "_patience", "descriptor")

    def __init__(self) -> None:
        self.descriptor = 2
        self._identity: tuple[int, int] | None = None  # of the log; None: not open yet
        self._patience = _PATIENCE

    def open(self) -> None:
        """Duplicate descriptor 2. Call this before any code of the function runs."""
        with suppress(OSError):
            self.descriptor = fcntl.fcntl(2, fcntl.F_DUPFD_CLOEXEC, STANDARD)
            self._identity = _identity(self.descriptor)

    def say(self, text: str) -> None:
        """Write `text`, which consists of whole lines. Safe on any thread and in signal handlers."""
        with suppress(Exception):  # no failure here may reach the function
            data = text.encode(errors="backslashreplace")
            if len(data) > MOST:
                end = data[-MOST:]
                data = b"...\n" + (end.partition(b"\n")[2] or end)
            self._write(data)

    def _write(self, data: bytes) -> None:
        if (number := self._find()) is None:
            return
        poll = select.poll()
        poll.register(number, select.POLLOUT)
        while data:
            if not poll.poll(self._patience):
                self._patience = 0  # the node does not read: do not keep the function waiting again
                return
            self._patience = _PATIENCE
            data = data[os.write(number, data[:_PIECE]) :]

    def _find(self) -> int | None:
        for number in (self.descriptor, 2, 1):
            with suppress(OSError):
                if self._identity is None or _identity(number) == self._identity:
                    return number
        return None

    def cover(self, number: int) -> None:
        """Put the log, or /dev/null, at the number of a standard stream that the function has closed."""
        with suppress(OSError):
            found = self._find() if number else None
            source = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC) if found is None else found
            os.dup2(source, number)
            if found is None:
                os.close(source)


def _identity(number: int) -> tuple[int, int]:
    status = os.fstat(number)
    return status.st_dev, status.st_ino


def traceback_text(error: BaseException, root: str = "") -> str:
    """Return the traceback of `error` from the first frame below `root` on.

    The function's own code may produce parts of it. That code may take any time, but it cannot keep this from
    returning.
    """
    frame = error.__traceback__
    while frame and not frame.tb_frame.f_code.co_filename.startswith(f"{root}/"):
        frame = frame.tb_next
    try:
        lines = format_exception(type(error), error, frame or error.__traceback__)
        return "".join([*lines, f"({advised})\n"] if (advised := advice(error)) else lines)
    except BaseException:  # the function's own code may raise anything
        return f"{kind_of(error)}: its message is not available\n"


def kind_of(error: BaseException) -> str:
    """Return the class name of `error`, bypassing its metaclass."""
    return str(type.__dict__["__name__"].__get__(type(error)))


JOURNAL = Journal()
