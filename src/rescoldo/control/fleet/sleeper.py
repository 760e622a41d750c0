"""Puts functions to sleep that have been idle for their window.

Nothing is polled while nothing is awake. An awake function's slot is read when its window may have passed, not
before: the access log tells of ended calls, and the slot's counters show requests in flight.
"""

from __future__ import annotations

import asyncio

from rescoldo.control.fleet.entry import Entry
from rescoldo.control.fleet.fleet import Fleet
from rescoldo.control.fleet.life import Life
from rescoldo.edge.protocol import Edge
from rescoldo.model.errors import EdgeUnavailable
from rescoldo.model.names import FunctionId, RouteKey
from rescoldo.policy.idle import Activity, LoadSample, due, observe
from rescoldo.tasks import Tasks

SHORTEST_NAP = 0.01  # seconds between two rounds
LOOK_SECONDS = 0.05  # how long a look takes while the edge answers
LONGEST_NAP = 1.0  # bounds how late a function falls asleep that woke during a nap


class Sleeper:
    """Finds idle functions, and has them retired."""

    def __init__(self, fleet: Fleet, edge: Edge, tasks: Tasks) -> None:
        self._fleet = fleet
        self._edge = edge
        self._tasks = tasks
        self._looking: set[RouteKey] = set()  # one look at a time each: thousands would pile up at a hung edge

    def saw_calls(self, function: FunctionId, count: int) -> None:
        """Note that `count` calls have ended, and add them to the total that the next look expects of the slot's
        counter: so known calls do not count as new traffic then. The access log does not say which revision served
        them, so where traffic is split, the counters alone decide who is idle."""
        entry = self._fleet.entries.get(function)
        if entry is not None and (awake := entry.awake) is not None and not entry.function.traffic:
            awake.activity = Activity(asyncio.get_running_loop().time(), awake.activity.total + count)

    async def run(self) -> None:
        """Look at each awake function when its window may have passed."""
        loop = asyncio.get_running_loop()
        while True:
            await self._fleet.entries.woken.wait()
            awake = [entry for entry in self._fleet.entries.values() if entry.awake is not None]
            if not awake:
                self._fleet.entries.woken.clear()
                continue
            now = loop.time()
            waits = [LONGEST_NAP]
            for entry in awake:
                if entry.key in self._looking:
                    waits.append(LOOK_SECONDS)
                    continue
                waits.append(_due(entry) - now)
                if waits[-1] <= 0:
                    self._looking.add(entry.key)
                    self._tasks.spawn(f"sleep {entry.key}", self._look(entry))
            await asyncio.sleep(max(SHORTEST_NAP, min(waits)))

    async def _look(self, entry: Entry) -> None:
        try:
            await self._close_if_idle(entry)
        finally:
            self._looking.discard(entry.key)

    async def _close_if_idle(self, entry: Entry) -> None:
        awake = entry.awake
        if awake is None or entry.life is not Life.AWAKE:
            return
        try:
            load = await self._edge.load(awake.slot)
        except EdgeUnavailable:
            return
        now = asyncio.get_running_loop().time()
        awake.activity = observe(awake.activity, LoadSample(load.busy, load.total), now)
        if entry.awake is awake and _due(entry) <= now:  # the sample may have moved the end of its window
            await self._fleet.retirement.close(entry)


def _due(entry: Entry) -> float:
    awake = entry.awake
    if awake is None or entry.floor or entry.life is not Life.AWAKE:
        return float("inf")
    return due(awake.activity, entry.policy.idle_window)
