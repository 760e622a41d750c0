"""What the runtime itself says in the function's log.

A function may replace or close sys.stderr, sys.stdout and descriptors 1 and 2, and redirect them for one call, which
must not hold words about another. So the runtime writes to a descriptor of its own, and compares it with what it
opened before it writes: the function may have closed it, and its number may be a client's connection by then. Writing
never fails and never waits for long; what there is no room for is lost.
"""

from __future__ import annotations

import fcntl
import os
import select
from contextlib import suppress
from traceback import format_exception

from rescoldo.runtime.hiding import advice

MOST = 64 * 2**10  # bytes of one text; of a longer one the end is kept, where a traceback says what happened
_PIECE = select.PIPE_BUF  # bytes; a pipe that has room takes so many at once
_PATIENCE = 100  # ms to wait for room, until there was none: a function prints faster than the node reads
STANDARD = 3  # descriptors below it are the standard streams


class Journal:
    """Writes to the log of this process's function."""

    __slots__ = ("_identity", "_patience", "descriptor")

    def __init__(self) -> None:
        self.descriptor = 2
        self._identity: tuple[int, int] | None = None  # of the log; None: not opened yet
        self._patience = _PATIENCE

    def open(self) -> None:
        """Take a descriptor for what descriptor 2 is. To be called before any code of the function runs."""
        with suppress(OSError):
            self.descriptor = fcntl.fcntl(2, fcntl.F_DUPFD_CLOEXEC, STANDARD)
            self._identity = _identity(self.descriptor)

    def say(self, text: str) -> None:
        """Write `text`, whole lines; for any thread, and for handlers of signals."""
        with suppress(Exception):  # a trouble here is nobody's
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
                self._patience = 0  # the node is not reading: its functions do not wait for it
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
        """Put the log, or nothing, at the number of a standard stream that the function has closed."""
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
    """The traceback of `error`, from the first frame that lies below `root` on. Its text may come from code of the
    function, which may do anything but keep this from returning a text; and take any time."""
    frame = error.__traceback__
    while frame and not frame.tb_frame.f_code.co_filename.startswith(f"{root}/"):
        frame = frame.tb_next
    try:
        lines = format_exception(type(error), error, frame or error.__traceback__)
        return "".join([*lines, f"({advised})\n"] if (advised := advice(error)) else lines)
    except BaseException:  # whatever the function's code raised
        return f"{kind_of(error)}: its message is not available\n"


def kind_of(error: BaseException) -> str:
    """The name of the class of `error`, whatever its metaclass says."""
    return str(type.__dict__["__name__"].__get__(type(error)))


JOURNAL = Journal()
