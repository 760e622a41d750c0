"""Sends the counts of calls to control, each batch until control has it.

A batch is a file from the moment in which it is counted, so a worker that is killed loses nothing that was handed over;
its successor in the same folder sends what it finds. Control counts a batch once, by its sender and number, so a batch
whose acknowledgement was lost is sent again.
"""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from collections import deque
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from rescoldo.durable import PARTIAL, replace_text
from rescoldo.link.protocol import Control, Counts, Unreachable
from rescoldo.link.wire import decode_counts, encode_counts
from rescoldo.model.errors import InvalidInput, RescoldoError
from rescoldo.policy.backoff import retry_delay
from rescoldo.store.protocol import MinuteUsage
from rescoldo.store.usage import summed

MOST_FILES = 600  # while control is away: ten minutes of batches; what comes later is added to the last of them
MOST_ROWS = 5_000  # of a batch to which more is added

_LOG = logging.getLogger(__name__)


class CountsOutbox:
    """The batches that wait in `folder`, which this process alone uses. `run` sends them until it is cancelled."""

    def __init__(self, folder: Path, control: Control) -> None:
        self._folder = folder
        self._control = control
        self._sender = uuid.uuid4().hex  # of this process: its numbers begin at 1
        self._number = 0
        self._waiting: deque[Path] = deque()  # oldest first
        self._added = asyncio.Event()

    def load(self) -> None:
        """Find what an earlier process has left, and forget half-written files. Raises OSError."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for partial in self._folder.glob(f"*{PARTIAL}"):
            partial.unlink()
        found = sorted(self._folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
        self._waiting.extend(found)
        self._added.set()

    def add(self, rows: Iterable[MinuteUsage]) -> None:
        """Keep counted calls until control has them. Raises OSError."""
        rows = tuple(rows)
        if len(self._waiting) >= MOST_FILES:
            last = self._waiting[-1]  # was never sent: so control has not counted its number yet
            counts = _read(last)
            if len(counts.rows) < MOST_ROWS:
                _write(last, replace(counts, rows=summed((*counts.rows, *rows))))
                return
        self._number += 1
        path = self._folder / f"{self._sender}-{self._number}.json"
        _write(path, Counts(self._sender, self._number, rows))
        self._waiting.append(path)
        self._added.set()

    async def run(self) -> None:
        """Send what waits, oldest first, until cancelled."""
        failures = 0
        while True:
            self._added.clear()
            while self._waiting:
                try:
                    await self._send(self._waiting[0])
                    failures = 0
                except Unreachable:  # the stream of changes says so, too
                    failures += 1
                    await asyncio.sleep(retry_delay(failures))
                else:
                    self._waiting.popleft()
            await self._added.wait()

    async def _send(self, path: Path) -> None:
        try:
            await self._control.count(_read(path))
        except Unreachable:
            raise
        except (RescoldoError, OSError) as error:  # it would fail again, and hold up all that come after it
            _LOG.error("the counts in %s are lost: %s", path.name, error)
        path.unlink(missing_ok=True)


def _write(path: Path, counts: Counts) -> None:
    replace_text(path, json.dumps(encode_counts(counts)))


def _read(path: Path) -> Counts:
    """Raises OSError, InvalidInput."""
    try:
        return decode_counts(json.loads(path.read_text()))
    except ValueError as error:
        raise InvalidInput(f"{path.name} is no JSON") from error
