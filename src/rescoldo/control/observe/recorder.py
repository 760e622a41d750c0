"""Counts every call that the edge reports, and keeps the counts by minute, later by hour, in the store.

Nothing here is on a request's path: the edge writes its log line after the answer.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable

from rescoldo.control.observe.coldtimes import ColdLog
from rescoldo.model.calls import CallKey, CallSums
from rescoldo.model.coldstart import ColdCall
from rescoldo.model.errors import StoreError
from rescoldo.model.names import FunctionId
from rescoldo.store.protocol import MinuteUsage, UsageStore

log = logging.getLogger(__name__)

MINUTE_DAYS = 3  # counts stay by minute for so long, then by hour in a sixtieth of the rows
USAGE_DAYS = 35  # counts by hour stay for so long: a month, and time to bill it
PRUNE_SECONDS = 3600.0  # between two removals of older counts
FLUSH_SECONDS = 1.0  # a killed controller loses at most about this much
MAX_PENDING = 100_000  # rows kept while the store fails; beyond this, the oldest are dropped


class Recorder:
    """Counts ended calls, and writes the counts to the store."""

    def __init__(
        self,
        store: UsageStore,
        on_calls: Callable[[FunctionId, int], None],
        exists: Callable[[FunctionId], bool] = lambda function: True,
    ) -> None:
        """`on_calls` gets a function and the number of its calls that have ended; `exists` returns whether a function
        is deployed."""
        self._store = store
        self._exists = exists
        self._on_calls = on_calls
        self._pending: dict[CallKey, CallSums] = {}
        self._dirty = asyncio.Event()
        self._before: dict[FunctionId, int] = {}  # calls recorded by earlier controllers
        self.cold = ColdLog()
        self.ended: dict[FunctionId, dict[int, CallSums]] = {}  # calls in this run, by function and status

    async def load(self) -> None:
        """Read the counts of earlier runs."""
        self._before = await self._store.invocations()

    def record(self, calls: dict[CallKey, CallSums]) -> None:
        """Count ended calls. For a removed function only their number counts, so that the next function of its name
        begins anew. Unknown names, which an edge may report right after its start, are ignored."""
        for key, sums in calls.items():
            if self._note(key.function, key.status, sums):
                self._pending.setdefault(key, CallSums()).add(sums)
                self._dirty.set()

    def note_saved(self, rows: Iterable[MinuteUsage]) -> None:
        """Count calls that the store has already: a cluster's workers have counted them."""
        for row in rows:
            sums = CallSums(row.calls, row.queue_ms, row.run_ms, row.bytes_in, row.bytes_out)
            if not self._note(row.function, row.status, sums):
                self._before[row.function] = row.calls

    def _note(self, function: FunctionId, status: int, sums: CallSums) -> bool:
        """Count calls for users and metrics; return whether the function is known."""
        if self._exists(function):
            self.ended.setdefault(function, {}).setdefault(status, CallSums()).add(sums)
            self._on_calls(function, sums.calls)
            return True
        if function in self._before:
            self._before[function] += sums.calls
            return True
        return False

    def record_cold(self, calls: Iterable[ColdCall]) -> None:
        """Count the phases of cold calls, for deployed functions only."""
        self.cold.record(call for call in calls if self._exists(call.function))

    def run_totals(self) -> dict[FunctionId, int]:
        """Ended calls in this run, by function."""
        return {name: sum(sums.calls for sums in ended.values()) for name, ended in self.ended.items()}

    def invocations(self) -> dict[FunctionId, int]:
        """Ended calls in this run and earlier ones, by function."""
        totals = self.run_totals()
        for name, count in self._before.items():
            totals[name] = totals.get(name, 0) + count
        return totals

    def invocations_of(self, function: FunctionId) -> int:
        """Ended calls of one function in this run and earlier ones."""
        now = sum(sums.calls for sums in self.ended.get(function, {}).values())
        return now + self._before.get(function, 0)

    async def flush(self) -> None:
        """Write the pending counts; keep them if the store fails."""
        pending, self._pending = self._pending, {}
        if not pending:
            return
        try:
            await self._store.add_usage([_row(key, sums) for key, sums in pending.items()])
        except StoreError as error:
            log.warning("cannot save usage yet, it stays in memory: %s", error)
            self._take_back(pending)

    async def run(self) -> None:
        """Flush about once a second while calls end; sleep while there are none."""
        loop = asyncio.get_running_loop()
        prune_at = 0.0  # seconds on the loop's clock; 0: right after the first flush
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            await asyncio.sleep(FLUSH_SECONDS)
            await self.flush()
            if loop.time() >= prune_at:
                prune_at = loop.time() + PRUNE_SECONDS
                await self.prune(time.time())

    async def prune(self, now: float) -> None:
        """Forget counts more than USAGE_DAYS before `now` (Unix seconds), and sum up those more than MINUTE_DAYS
        before it by hour. Totals stay; that of a removed function only as long as one of its counts."""
        this_hour = int(now) // 3600 * 60  # in minutes; prune whole hours only, which are summed up together
        try:
            await self._store.prune_usage(this_hour - USAGE_DAYS * 1440, this_hour - MINUTE_DAYS * 1440)
            kept = await self._store.invocations()
        except StoreError as error:
            log.warning("cannot remove old usage yet: %s", error)
        else:
            self._before = {name: count for name, count in self._before.items() if name in kept}

    def forget(self, function: FunctionId) -> None:
        """Forget a removed function except its number of calls; otherwise names that come and go, each with
        histograms, would fill the memory."""
        ended = self.ended.pop(function, {})
        self._before[function] = self._before.get(function, 0) + sum(sums.calls for sums in ended.values())
        self.cold.forget(function)

    def _take_back(self, pending: dict[CallKey, CallSums]) -> None:
        for key, sums in self._pending.items():
            pending.setdefault(key, CallSums()).add(sums)
        for key in list(pending)[: max(0, len(pending) - MAX_PENDING)]:
            del pending[key]
        self._pending = pending
        self._dirty.set()


def _row(key: CallKey, sums: CallSums) -> MinuteUsage:
    return MinuteUsage(*key, sums.calls, sums.queue_ms, sums.run_ms, sums.bytes_in, sums.bytes_out)
