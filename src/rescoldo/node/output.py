"""What one instance prints: read from its FIFO, held to a budget, cut into lines.

The instance holds the FIFO open for reading too, so that a write never fails while no node is there: it
waits when the pipe (64 KiB) is full, and goes on when the next node opens the FIFO by its path.

A flood harms only the one who causes it: at most one chunk is read at a time, what is over the budget is
dropped, and while it is, reading pauses between chunks (about 13 MB/s), so the node's time is not the
price. Memory does not grow with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

MAX_LINE = 16 * 2**10  # bytes; longer lines are cut into pieces
BURST_SECONDS = 2  # a quiet time of so many seconds lets as much be kept at once
TAIL = 10  # last lines told when a start fails
_CHUNK = 64 * 2**10  # bytes read at once
_DROP_PAUSE = 0.005  # seconds between two chunks that are dropped
_NOTICE_AFTER = 1.0  # seconds from the first dropped byte to the line that says so
_DRAIN_CHUNKS = 16  # read at most this many chunks of one that has ended: a pipe holds 64 KiB

# One for all: a chunk is copied out of it before the next is read, and flooders cost no memory each.
_buffer = bytearray(_CHUNK)


class Budget:
    """A token bucket in bytes. With `rate` 256 KiB a second it holds 512 KiB, and is full after 2 quiet seconds."""

    def __init__(self, now: float, rate: int) -> None:
        self._rate = rate
        self._burst = rate * BURST_SECONDS
        self._left = float(self._burst)
        self._at = now

    def take(self, wanted: int, now: float) -> int:
        """How many of `wanted` bytes may be kept at `now` (seconds of one clock)."""
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        granted = min(wanted, int(self._left))
        self._left -= granted
        return granted


class Lines:
    """Cuts a stream of bytes into lines of at most MAX_LINE bytes."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        """The lines that `data` completes."""
        *whole, rest = (self._rest + data).split(b"\n")
        found = [piece for line in whole for piece in _pieces(line)]
        while len(rest) >= MAX_LINE:
            found.append(_text(rest[:MAX_LINE]))
            rest = rest[MAX_LINE:]
        self._rest = rest
        return found

    def end(self) -> list[str]:
        """What was left without a newline."""
        rest, self._rest = self._rest, b""
        return _pieces(rest) if rest else []


def _pieces(line: bytes) -> list[str]:
    line = line.removesuffix(b"\r")
    return [_text(line[start : start + MAX_LINE]) for start in range(0, max(1, len(line)), MAX_LINE)]


def _text(line: bytes) -> str:
    return line.decode(errors="replace")


class Output:
    """The FIFO of one instance at `path`; `on_line` gets every line that is kept, of `rate` bytes a second."""

    def __init__(self, path: Path, on_line: Callable[[str], None], rate: int) -> None:
        self.path = path
        self._rate = rate
        self.tail: deque[str] = deque(maxlen=TAIL)
        self._on_line = on_line
        self._lines = Lines()
        self._budget = Budget(time.monotonic(), rate)
        self._dropped = 0
        self._loop = asyncio.get_running_loop()
        self._notice: asyncio.TimerHandle | None = None
        self._resume: asyncio.TimerHandle | None = None
        self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._loop.add_reader(self._fd, self._on_readable)

    @classmethod
    def create(cls, path: Path, uid: int | None, on_line: Callable[[str], None], rate: int) -> Output:
        """Make the FIFO. It belongs to `uid`, so that the instance may open its own /dev/stdout."""
        path.unlink(missing_ok=True)
        os.mkfifo(path, 0o600)
        if uid is not None:
            os.chown(path, uid, -1)
        return cls(path, on_line, rate)

    def open_for_child(self) -> int:
        """A descriptor for an instance's stdout and stderr: blocking, and apart from ours."""
        return os.open(self.path, os.O_RDWR | os.O_CLOEXEC)

    def _on_readable(self) -> None:
        if self._read() > 0:
            self._loop.remove_reader(self._fd)
            self._resume = self._loop.call_later(_DROP_PAUSE, self._read_on)

    def _read_on(self) -> None:
        self._resume = None
        self._loop.add_reader(self._fd, self._on_readable)

    def _read(self) -> int:
        """Read one chunk; return how much of it was dropped, or -1 when there was none."""
        try:
            size = os.readv(self._fd, [_buffer])
        except BlockingIOError:
            return -1
        kept = self._budget.take(size, time.monotonic())
        self._emit(self._lines.feed(bytes(_buffer[:kept])))
        if kept < size:
            self._emit(self._lines.end())  # what comes after the gap is another line
            self._dropped += size - kept
            if self._notice is None:
                self._notice = self._loop.call_later(_NOTICE_AFTER, self._tell_dropped)
        return size - kept

    def _tell_dropped(self) -> None:
        self._notice = None
        dropped, self._dropped = self._dropped, 0
        limit = f"{self._rate / 1024:.4g} KiB/s, rescoldo.dev/log-rate"
        self._emit([f"… {dropped} bytes of output dropped (limit {limit})"])

    def _emit(self, lines: list[str]) -> None:
        for line in lines:
            self.tail.append(line)
            self._on_line(line)

    def drain(self) -> None:
        """Take what the pipe still holds, the last line without a newline too."""
        for _ in range(_DRAIN_CHUNKS):
            if self._read() < 0:
                break
        self._emit(self._lines.end())

    def close(self) -> None:
        """Take what is left and remove the FIFO."""
        self.drain()
        if self._notice is not None:
            self._notice.cancel()
            self._tell_dropped()
        if self._resume is not None:
            self._resume.cancel()
        self._loop.remove_reader(self._fd)
        os.close(self._fd)
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)
