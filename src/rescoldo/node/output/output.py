"""The output of one instance: the node reads its FIFOs, applies a budget and cuts lines.

Standard output and standard error have a FIFO each, so that their lines do not mix. The instance opens both for
reading too, so that a write never fails while no node runs: it blocks when the pipe (64 KiB) is full, and goes on
when the next node opens the FIFO by its path.

A flood harms only the function that prints it. One callback reads at most one chunk and keeps at most SLICE_LINES
lines of it; the node drops bytes over the budget; between two such chunks reading pauses (`Pump`; about 13 MB/s).
So a flood costs the node little time, and no memory.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from rescoldo.node.output.pump import Pump
from rescoldo.policy.budget import Budget, lines_for

MAX_LINE = 16 * 2**10  # bytes; longer lines are cut into pieces
TAIL = 10  # last lines shown when a start fails
SLICE_LINES = 256  # lines kept in one callback: about 0.5 ms
SHOW_AFTER = 0.5  # seconds after which text is shown without its newline
_CHUNK = 64 * 2**10  # bytes read at once
_NOTICE_AFTER = 1.0  # seconds from the first dropped byte to the line that reports it
_DRAIN_CHUNKS = 16  # chunks read, at most, after the instance's end: a pipe holds 64 KiB

# One buffer for all: a chunk is copied out of it before the next read, so that a flood costs no memory each.
_buffer = bytearray(_CHUNK)

OnLines = Callable[[list[str]], None]


class Lines:
    """Cuts a stream of bytes into lines of at most MAX_LINE bytes."""

    def __init__(self) -> None:
        self._rest = b""
        self._shown = False  # the last line was shown before its end: a newline alone ends it

    @property
    def has_rest(self) -> bool:
        """Whether there is text without a newline."""
        return bool(self._rest)

    def feed(self, data: bytes) -> list[str]:
        """Add `data`; return the lines that it completes."""
        *whole, rest = (self._rest + data).split(b"\n")
        if whole:
            if self._shown and whole[0] in (b"", b"\r"):
                del whole[0]
            self._shown = False
        found = [piece for line in whole for piece in _pieces(line)]
        while len(rest) >= MAX_LINE:
            found.append(_text(rest[:MAX_LINE]))
            rest = rest[MAX_LINE:]
        self._rest = rest
        return found

    def show(self) -> list[str]:
        """Return the text without a newline so far, except a last, incomplete character."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        text = decoder.decode(self._rest)
        self._rest = decoder.getstate()[0]
        self._shown = self._shown or bool(text)
        return [text.removesuffix("\r")] if text else []

    def end(self) -> list[str]:
        """Return the remaining text, which no newline ends."""
        rest, self._rest, self._shown = self._rest, b"", False
        return _pieces(rest) if rest else []


def _pieces(line: bytes) -> list[str]:
    line = line.removesuffix(b"\r")
    return [_text(line[start : start + MAX_LINE]) for start in range(0, max(1, len(line)), MAX_LINE)]


def _text(line: bytes) -> str:
    return line.decode(errors="replace")


class Output:
    """The FIFOs of one instance, `path` and beside it `.err`. `on_lines` receives every kept line; `rate` is the
    budget in bytes a second."""

    def __init__(
        self, path: Path, on_lines: OnLines, rate: int, pump: Pump, opened: Sequence[int | None] = (None, None)
    ) -> None:
        """`opened`: descriptors of FIFOs without a name, which this object then owns; None: open the FIFO by its
        name."""
        self._rate = rate
        self.tail: deque[str] = deque(maxlen=TAIL)
        self._on_lines = on_lines
        self.budget = Budget(time.monotonic(), rate)
        self._dropped = self._dropped_lines = 0
        self._muted = False
        self._notice: asyncio.TimerHandle | None = None
        names = self.names(path)
        self._streams = [_Stream(name, self, pump, fd) for name, fd in zip(names, opened, strict=True)]

    @classmethod
    def create(cls, path: Path, uid: int | None, on_lines: OnLines, rate: int, pump: Pump) -> Output:
        """Create the FIFOs. They belong to `uid`, so that the instance may open its own /dev/stdout."""
        for name in cls.names(path):
            _make(name, uid)
        return cls(path, on_lines, rate, pump)

    @staticmethod
    def names(path: Path) -> tuple[Path, Path]:
        """The paths of the FIFOs of standard output and standard error."""
        return path, path.with_suffix(".err")

    def open_for_child(self) -> list[int]:
        """Descriptors for an instance's stdout and stderr: blocking, and apart from the node's own."""
        # not by their names, which somebody may have removed
        return [os.open(f"/proc/self/fd/{stream.fd}", os.O_RDWR | os.O_CLOEXEC) for stream in self._streams]

    def keep(self, lines: list[str]) -> None:
        """Keep `lines`: in the tail, and in the log unless muted."""
        if lines:
            self.tail.extend(lines)
            if not self._muted:
                self._on_lines(lines)

    def mute(self) -> None:
        """Log nothing more, as the function and its log have been removed."""
        self._muted = True

    def drop(self, data: bytes) -> None:
        """Count `data` as dropped; a line reports the total _NOTICE_AFTER seconds after the first dropped byte."""
        self._dropped += len(data)
        self._dropped_lines += data.count(b"\n")
        if self._notice is None:
            self._notice = asyncio.get_running_loop().call_later(_NOTICE_AFTER, self._tell_dropped)

    def _tell_dropped(self) -> None:
        self._notice = None
        dropped, lines = self._dropped, self._dropped_lines
        self._dropped = self._dropped_lines = 0
        limit = f"{self._rate / 1024:.4g} KiB/s, {lines_for(self._rate)} lines/s, rescoldo.dev/log-rate"
        self.keep([f"… {dropped} bytes of output dropped, {lines} lines (limit {limit})"])

    async def drain(self) -> None:
        """Read the rest of the pipes, including a last line without a newline; other tasks get turns meanwhile."""
        for stream in self._streams:
            for _ in range(_DRAIN_CHUNKS):
                if not stream.advance():
                    break
                while stream.holds:
                    await asyncio.sleep(0)
                    stream.advance()
            stream.end()

    def close(self) -> None:
        """Read the little that may remain after `drain`, and remove the FIFOs."""
        for stream in self._streams:
            stream.close()
        if self._notice is not None:
            self._notice.cancel()
            self._tell_dropped()


class _Stream:
    """One FIFO of an output; implements `Source`."""

    def __init__(self, path: Path, output: Output, pump: Pump, opened: int | None) -> None:
        self.path = path
        self._output = output
        self._pump = pump
        self._lines = Lines()
        self._held = b""  # within the budget, not cut into lines yet
        self._over = b""  # the bytes after it, over the budget
        self._showing: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self.fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC) if opened is None else opened
        self.rest()

    def rest(self) -> None:
        self._loop.add_reader(self.fd, self._pump.readable, self)

    def wait(self) -> None:
        self._loop.remove_reader(self.fd)

    def work(self) -> bool:
        flooding = self._read() if not self._held else bool(self._over)
        self._keep_some()
        return flooding or bool(self._held)

    @property
    def holds(self) -> bool:
        """Whether a part of the last chunk still waits to be kept."""
        return bool(self._held)

    def advance(self) -> bool:
        """Do one piece of work; return whether there was any."""
        if not self._held:
            self._read()
        if not self._held and not self._over:
            return False
        self._keep_some()
        return True

    def _read(self) -> bool:
        """Read one chunk; return whether a part of it is over the budget."""
        try:
            size = os.readv(self.fd, [_buffer])
        except BlockingIOError:
            return False
        data = bytes(_buffer[:size])
        kept = self._output.budget.take(data, time.monotonic())
        self._held, self._over = data[:kept], data[kept:]
        return kept < size

    def _keep_some(self) -> None:
        pieces = self._held.split(b"\n", SLICE_LINES)
        end = len(self._held) - len(pieces[-1]) if len(pieces) > SLICE_LINES else len(self._held)
        piece, self._held = self._held[:end], self._held[end:]
        self._output.keep(self._lines.feed(piece))
        if self._over and not self._held:
            self._output.keep(self._lines.end())  # text after the gap is another line
            self._output.drop(self._over)
            self._over = b""
        if self._lines.has_rest and self._showing is None:
            self._showing = self._loop.call_later(SHOW_AFTER, self._show)

    def _show(self) -> None:
        self._showing = None
        self._output.keep(self._lines.show())

    def end(self) -> None:
        """End the last line: the writing process writes no more."""
        if self._showing is not None:
            self._showing.cancel()
            self._showing = None
        self._output.keep(self._lines.end())

    def close(self) -> None:
        self._pump.forget(self)
        for _ in range(_DRAIN_CHUNKS):
            if not self.advance() or self._held:
                break
        if self._held:
            self._output.drop(self._held + self._over)
        self.end()
        self._loop.remove_reader(self.fd)
        os.close(self.fd)
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)


def _make(path: Path, uid: int | None) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path, 0o600)
    if uid is not None:
        os.chown(path, uid, -1)
