"""Prints functions' log lines as JSON, one object a line, for collectors of a container's standard output.

The node never waits for the reader: a thread of its own writes, and lines that find MOST_WAITING bytes waiting are
counted and left out. Each write has at most PIPE_BUF bytes where a line allows that, so a node that is killed leaves no
half line behind.
"""

from __future__ import annotations

import json
import logging
import os
import select
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from rescoldo.model.names import FunctionId, InstanceId, split_id

PRINTED = "RESCOLDO_PRINTED_FD"  # environment variable: the number of the descriptor
MOST_WAITING = 2**20  # bytes
PIECE = 3500  # characters of text in one line: with the names below PIPE_BUF, if they are ASCII
_TEXT = json.JSONEncoder(ensure_ascii=False).encode

_LOG = logging.getLogger(__name__)


class Printer:
    """Writes to `descriptor`, which is this object's from then on."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._changed = threading.Condition()
        self._waiting: list[bytes] = []
        self._size = 0  # bytes that wait
        self._lost = 0  # lines left out since the last that was kept
        self._closed = False
        self._thread = threading.Thread(target=self._write_all, name="print functions' lines", daemon=True)
        self._thread.start()

    @classmethod
    def inherited(cls) -> Printer | None:
        """A printer to the descriptor that the supervisor handed to this process; None if it is not to print."""
        found = os.environ.pop(PRINTED, "")
        if not found:
            return None
        os.set_inheritable(int(found), False)  # no function writes there itself
        return cls(int(found))

    def add(self, function: FunctionId, instance: InstanceId, now: float, texts: Sequence[str]) -> None:
        """Print lines of an instance; never waits. `now`: Unix time."""
        if not self._thread.is_alive():
            return
        found = [line for text in texts for line in _lines(function, instance, now, text)]
        with self._changed:
            if self._size >= MOST_WAITING:
                self._lost += len(found)
                return
            if self._lost:
                found = [_left_out(now, self._lost), *found]
                self._lost = 0
            self._waiting += found
            self._size += sum(map(len, found))
            self._changed.notify()

    def close(self, patience: float = 1.0) -> None:
        """End within `patience` seconds; what the reader has not taken by then is lost."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(patience)

    def _write_all(self) -> None:
        while lines := self._take():
            try:
                for chunk in _chunks(lines):
                    _write(self._descriptor, chunk)
            except OSError as error:  # nobody reads any more
                _LOG.warning("functions' lines are not printed any more: %s", error.strerror)
                return

    def _take(self) -> list[bytes]:
        """Wait for lines and take them all; empty after `close`."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            lines, self._waiting, self._size = self._waiting, [], 0
            return lines


def _lines(function: FunctionId, instance: InstanceId, now: float, text: str) -> Iterator[bytes]:
    """A line as JSON, in pieces if it is long."""
    name, namespace = split_id(function)
    for begin in range(0, max(1, len(text)), PIECE):
        yield _line(now, namespace, name, instance, text[begin : begin + PIECE])


def _line(now: float, namespace: str, function: str, instance: str, text: str) -> bytes:
    when = datetime.fromtimestamp(now, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    line = {"time": when, "namespace": namespace, "function": function, "instance": instance, "line": text}
    return _TEXT(line).encode(errors="replace") + b"\n"


def _left_out(now: float, lines: int) -> bytes:
    return _line(now, "", "", "", f"… {lines} lines of functions left out: standard output was read too slowly")


def _chunks(lines: Sequence[bytes]) -> Iterator[bytes]:
    """Lines joined to as few writes as PIPE_BUF allows."""
    chunk = b""
    for line in lines:
        if chunk and len(chunk) + len(line) > select.PIPE_BUF:
            yield chunk
            chunk = b""
        chunk += line
    yield chunk


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
