"""The functions' log files, and their followers.

Each function has one file with one JSON object a line, {"t": Unix seconds, "i": instance, "x": text}. At 1 MiB it
replaces its predecessor (`.1`), so the node keeps at most 2 MiB of a function. Lines wait up to 50 ms to be written
together. A function that prints nothing takes no memory.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from rescoldo.model.errors import Busy
from rescoldo.model.instance import LogLine
from rescoldo.model.names import FunctionId, InstanceId
from rescoldo.model.text import read_json
from rescoldo.node.output.printer import Printer

ROTATE_AT = 2**20  # bytes
_FLUSH_AFTER = 0.05  # seconds
_FLUSH_AT = 2**20  # bytes gathered, of all functions together
_FOLLOWER_LINES = 512  # lines kept for a slow follower
_FOLLOWER_BYTES = 2**20  # bytes kept for it, in the form of the file
_MOST_FOLLOWERS = 100  # of one function
_BATCH = 200  # lines handed over at once
_READ = 16 * 2**10  # bytes of a file read before other tasks get a turn

_LOG = logging.getLogger(__name__)


class Follower:
    """Reads a function's lines as they are written. A slow follower loses the oldest lines, and learns how many."""

    def __init__(self, function: FunctionId, instance: str) -> None:
        self.function = function
        self.instance = instance  # "": all instances
        self._lines: deque[tuple[LogLine, int]] = deque()
        self._size = 0  # bytes
        self._lost = 0
        self._arrived = asyncio.Event()

    def add(self, line: LogLine, size: int) -> None:
        """Add a new line, of `size` bytes in the file; never waits."""
        if self.instance and line.instance != self.instance:
            return
        self._lines.append((line, size))
        self._size += size
        while len(self._lines) > _FOLLOWER_LINES or (self._size > _FOLLOWER_BYTES and len(self._lines) > 1):
            self._size -= self._lines.popleft()[1]
            self._lost += 1
        self._arrived.set()

    async def take(self) -> list[LogLine]:
        """Return the lines since the last call; wait for at least one."""
        await self._arrived.wait()
        self._arrived.clear()
        lines = [line for line, _ in self._lines]
        self._lines.clear()
        self._size = 0
        if self._lost:
            text = f"… {self._lost} lines left out: the client read too slowly"
            lines.insert(0, LogLine(self.function, InstanceId(self.instance), lines[0].timestamp, text))
            self._lost = 0
        return lines


class LogBook:
    """All log files of one node, in `folder`. A failing disk costs log lines and nothing else."""

    def __init__(self, folder: Path, printer: Printer | None = None) -> None:
        """`printer` gets each line, too."""
        self._folder = folder
        self._printer = printer
        self._pending: dict[FunctionId, list[bytes]] = {}
        self._pending_size = 0
        self._flush_due: asyncio.TimerHandle | None = None
        self._followers: dict[FunctionId, set[Follower]] = {}
        self._failing = False

    def write(self, function: FunctionId, instance: InstanceId, texts: list[str]) -> None:
        """Add lines that an instance has just printed."""
        now = round(time.time(), 6)
        if self._printer is not None:
            self._printer.add(function, instance, now, texts)
        head = f'{{"t":{now},"i":{json.dumps(instance)},"x":'
        lines = [f"{head}{json.dumps(text)}}}\n".encode() for text in texts]
        self._pending.setdefault(function, []).extend(lines)
        self._pending_size += sum(map(len, lines))
        for follower in self._followers.get(function, ()):
            for text, line in zip(texts, lines, strict=True):
                follower.add(LogLine(function, instance, now, text), len(line))
        if self._pending_size >= _FLUSH_AT:
            self.flush()
        elif self._flush_due is None:
            self._flush_due = asyncio.get_running_loop().call_later(_FLUSH_AFTER, self.flush)

    def flush(self) -> None:
        """Write the gathered lines to the files."""
        if self._flush_due is not None:
            self._flush_due.cancel()
            self._flush_due = None
        pending, self._pending, self._pending_size = self._pending, {}, 0
        try:
            for function, lines in pending.items():
                self._append(self._path(function), b"".join(lines))
        except OSError as error:
            # Once per outage, not at every flush.
            if not self._failing:
                _LOG.warning("cannot save functions' output: %s", error)
            self._failing = True
        else:
            self._failing = False

    def close(self) -> None:
        """Write and print what has been gathered."""
        self.flush()
        if self._printer is not None:
            self._printer.close()

    def _path(self, function: FunctionId) -> Path:
        return self._folder / f"{function}.log"

    def _append(self, path: Path, data: bytes) -> None:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "wb", 0) as file:
            file.write(data)
            full = os.fstat(file.fileno()).st_size >= ROTATE_AT
        if full:
            path.replace(path.with_suffix(".log.1"))

    def forget(self, function: FunctionId) -> None:
        """Remove the log of `function`."""
        self._pending.pop(function, None)
        path = self._path(function)
        for file in (path, path.with_suffix(".log.1")):
            file.unlink(missing_ok=True)

    async def read(
        self, function: FunctionId, *, tail: int | None, since: float | None, follow: bool, instance: str
    ) -> AsyncGenerator[list[LogLine], None]:
        """Lines in batches, oldest first; see `Node.logs`. Raises Busy where _MOST_FOLLOWERS follow already."""
        follower = Follower(function, instance)
        with ExitStack() as stack:
            # No await between flush, open and registration: a line written meanwhile would come twice or not at
            # all.
            self.flush()
            files = self._open(function, stack)
            if follow:
                followers = self._followers.setdefault(function, set())
                if len(followers) >= _MOST_FOLLOWERS:
                    raise Busy(f"{_MOST_FOLLOWERS} clients already follow the log of {function}")
                followers.add(follower)
                stack.callback(self._leave, follower)
            kept: deque[LogLine] = deque(maxlen=tail)
            for file, end in files:
                async for line in _lines_of(file, end, function, since, instance):
                    kept.append(line)
                    if tail is None and len(kept) >= _BATCH:
                        yield list(kept)
                        kept.clear()
            while kept:
                yield [kept.popleft() for _ in range(min(_BATCH, len(kept)))]
            while follow:
                yield await follower.take()

    def _open(self, function: FunctionId, stack: ExitStack) -> list[tuple[IO[bytes], int]]:
        """The files of `function`, oldest first, each with the number of bytes to read."""
        path = self._path(function)
        found: list[tuple[IO[bytes], int]] = []
        for name in (path.with_suffix(".log.1"), path):
            try:
                file = stack.enter_context(name.open("rb"))
            except OSError:
                continue
            found.append((file, os.fstat(file.fileno()).st_size))
        return found

    def _leave(self, follower: Follower) -> None:
        followers = self._followers[follower.function]
        followers.discard(follower)
        if not followers:
            del self._followers[follower.function]


async def _lines_of(
    file: IO[bytes], end: int, function: FunctionId, since: float | None, instance: str
) -> AsyncGenerator[LogLine, None]:
    """The matching lines of `file` among its first `end` bytes."""
    position = looked_at = 0
    for data in file:
        position += len(data)
        if position > end:
            return
        if position - looked_at > _READ:
            looked_at = position
            await asyncio.sleep(0)
        try:
            entry = read_json(data)
            line = LogLine(function, InstanceId(entry["i"]), entry["t"], entry["x"])
        except (ValueError, KeyError, TypeError):
            continue  # cut off by a full disk or a power cut
        if (since is None or line.timestamp >= since) and instance in ("", line.instance):
            yield line
