"""Counts every call the edge tells of, and keeps the counts by minute in the store.

Nothing here is on a request's path: the edge's log line arrives after the answer.
"""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from rescoldo.model.calls import CallRecord
from rescoldo.model.errors import StoreError
from rescoldo.model.names import FunctionId
from rescoldo.store.protocol import MinuteUsage, Store

log = logging.getLogger(__name__)

FLUSH_SECONDS = 1.0  # at most this much is lost when the controller is killed
MAX_PENDING = 100_000  # rows kept while the store cannot be written; then the oldest are dropped
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # seconds; Prometheus' defaults

Key = tuple[FunctionId, int, int, bool]  # function, minute, status, cold


@dataclass(slots=True)
class Sums:
    calls: int = 0
    queue_ms: int = 0
    run_ms: int = 0
    bytes_in: int = 0
    bytes_out: int = 0


@dataclass(slots=True)
class Durations:
    """A histogram of the whole time of calls, and their sum in seconds."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    seconds: float = 0.0


class Recorder:
    def __init__(self, store: Store, on_call: Callable[[FunctionId], None]) -> None:
        self._store = store
        self._on_call = on_call
        self._pending: dict[Key, Sums] = {}
        self._dirty = asyncio.Event()
        self._before: dict[FunctionId, int] = {}  # calls recorded by earlier controllers
        self.durations: dict[tuple[FunctionId, int], Durations] = {}

    async def load(self) -> None:
        """Read the counts of earlier runs."""
        self._before = await self._store.invocations()

    def record(self, call: CallRecord) -> None:
        key = (call.function, int(call.ended_at) // 60, call.status, call.cold)
        sums = self._pending.get(key)
        if sums is None:
            sums = self._pending[key] = Sums()
            self._dirty.set()
        sums.calls += 1
        sums.queue_ms += call.queue_ms
        sums.run_ms += call.run_ms
        sums.bytes_in += call.bytes_in
        sums.bytes_out += call.bytes_out
        self._count(call)
        self._on_call(call.function)

    def _count(self, call: CallRecord) -> None:
        key = (call.function, call.status)
        durations = self.durations.get(key)
        if durations is None:
            durations = self.durations[key] = Durations()
        seconds = (call.queue_ms + call.run_ms) / 1000
        durations.counts[bisect_left(BUCKETS, seconds)] += 1
        durations.seconds += seconds

    def run_totals(self) -> dict[FunctionId, int]:
        """Calls that have ended in this run, by function."""
        totals: dict[FunctionId, int] = {}
        for (name, _), durations in self.durations.items():
            totals[name] = totals.get(name, 0) + sum(durations.counts)
        return totals

    def invocations(self) -> dict[FunctionId, int]:
        """Calls that have ended, in this run and those before, by function."""
        totals = self.run_totals()
        for name, count in self._before.items():
            totals[name] = totals.get(name, 0) + count
        return totals

    def forget(self, function: FunctionId) -> None:
        """A function was removed: its counters start anew, its usage by minute is kept."""
        for key in [key for key in self.durations if key[0] == function]:
            del self.durations[key]

    async def flush(self) -> None:
        """Write what is pending; keep it when the store cannot take it."""
        pending, self._pending = self._pending, {}
        if not pending:
            return
        try:
            await self._store.add_usage(_rows(pending))
        except StoreError as error:
            log.warning("usage is kept in memory: %s", error)
            self._merge_back(pending)

    async def run(self) -> None:
        """Flush about once a second while there are calls; sleep while there are none."""
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            await asyncio.sleep(FLUSH_SECONDS)
            await self.flush()

    def _merge_back(self, pending: dict[Key, Sums]) -> None:
        for key, sums in self._pending.items():
            old = pending.setdefault(key, Sums())
            old.calls += sums.calls
            old.queue_ms += sums.queue_ms
            old.run_ms += sums.run_ms
            old.bytes_in += sums.bytes_in
            old.bytes_out += sums.bytes_out
        for key in list(pending)[: max(0, len(pending) - MAX_PENDING)]:
            del pending[key]
        self._pending = pending
        self._dirty.set()


def _rows(pending: dict[Key, Sums]) -> Iterator[MinuteUsage]:
    for (function, minute, status, cold), sums in pending.items():
        yield MinuteUsage(
            function, minute, status, cold, sums.calls, sums.queue_ms, sums.run_ms, sums.bytes_in, sums.bytes_out
        )
