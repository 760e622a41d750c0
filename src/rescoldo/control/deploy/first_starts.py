"""Starts an unprotected revision once, so that its author hears of a failure before a caller does.

Such a revision is a first deployment, the replacement of one that never started, or a deployment to a paused
function. Its trial is a wake like one for a call: calls share the start and its failure, and the started instance
serves, or sleeps after its idle window. The store keeps the mark of an unfinished trial, so that the next
controller repeats it.
"""

from __future__ import annotations

import asyncio
from collections import deque

from rescoldo.control.fleet.awake import Awake
from rescoldo.control.fleet.entry import Entry
from rescoldo.control.fleet.fleet import Fleet
from rescoldo.control.fleet.retirement import SETTLE_SECONDS
from rescoldo.model.errors import Busy, Conflict, NotStarted, Paused, RescoldoError, StartFailed, StartTimeout
from rescoldo.model.function import Function
from rescoldo.tasks import Tasks

AT_ONCE = 4  # trials; the node starts eight instances at once, which leaves room for calls
MOST_AWAKE = 16  # tried and not called yet: beyond this, the oldest sleeps before its idle window is over
LONGEST_PAUSE = 10.0  # seconds between two tries while the machine has no room


class FirstStarts:
    """Limits concurrent trials, and the instances that they leave awake."""

    def __init__(self, fleet: Fleet, tasks: Tasks, *, elsewhere: bool = False) -> None:
        """`elsewhere`: functions start in other processes, and their trials, too: a cluster's control."""
        self._elsewhere = elsewhere
        self._fleet = fleet
        self._tasks = tasks
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._tried: deque[tuple[Entry, Awake, int]] = deque()  # oldest first, with the request counter of its slot

    def go_on(self) -> None:
        """At the controller's start, try revisions whose trial did not end under the previous controller."""
        for entry in self._fleet.entries.functions():
            self.resume(entry)

    def resume(self, entry: Entry) -> None:
        """Begin the trial that another controller has not ended, if there is one. On a worker of a cluster another one
        may have the function by now, so its next call tries it."""
        untried = entry.standing.untried and entry.failure is None and not entry.standing.paused
        if untried and self._fleet.upkeep.keeps(entry.id):
            self.begin(entry)

    def begin(self, entry: Entry) -> None:
        """Begin the trial of the entry's present revision. A trial of the previous revision ends by itself."""
        if self._elsewhere:
            return
        entry.failure = None  # no back-off of the previous revision delays this one
        entry.trial = self._tasks.spawn(f"try {entry.id}", self._try(entry, entry.function))

    async def outcome(self, entry: Entry, function: Function, patience: float) -> bool:
        """Wait for the trial of `function` for up to `patience` seconds; return whether it has ended and the function
        started. Without patience, return whether no trial is under way.

        Raises NotStarted with the reason, and Conflict if the function was removed or deployed again before its
        start.
        """
        if self._elsewhere:
            return not entry.standing.untried
        if (trial := entry.trial) is not None and patience:
            await asyncio.wait({trial}, timeout=patience)
        if not patience:
            return trial is None
        if entry.removed:
            raise Conflict(f"function {function.id} was removed before its revision {function.revision} had started")
        if entry.function.revision != function.revision:
            raise Conflict(f"{function.id} was deployed again before its revision {function.revision} had started")
        if entry.trial is not None:
            return False
        if entry.failure is not None:
            raise NotStarted(
                f"{function.id} did not start. It is deployed in the state failing; calls get this reason until it "
                f"starts: {entry.failure.error.message}"
            )
        return True

    async def _try(self, entry: Entry, function: Function) -> None:
        try:
            async with self._turns:
                await self._start(entry, function)
        finally:
            if entry.trial is asyncio.current_task():  # a later deployment may have begun its own trial
                entry.trial = None

    async def _start(self, entry: Entry, function: Function) -> None:
        pause = 1.0
        while self._is_due(entry, function):
            try:
                await self._fleet.wakes.wake(entry.key, "deployed: trial start")
            except Paused:
                return  # `Pauses.resume` begins another trial
            except Busy:  # the platform's lack of room says nothing about the function
                await asyncio.sleep(pause)
                pause = min(LONGEST_PAUSE, 2 * pause)
            except (StartFailed, StartTimeout):
                return  # `Wakes` has noted the reason
            except RescoldoError:
                if self._is_due(entry, function):
                    raise
                return  # removed meanwhile
            else:
                self._fleet.standings.note(entry, untried=False)
                self._note_tried(entry)
                return

    def _is_due(self, entry: Entry, function: Function) -> bool:
        now = entry.function
        same = (now.revision, now.generation) == (function.revision, function.generation)
        here = self._fleet.entries.get(entry.key) is entry
        return same and here and not entry.standing.paused

    def _note_tried(self, entry: Entry) -> None:
        """Let only the latest MOST_AWAKE tried functions stay awake uncalled, since many deployments in a row would
        fill the machine."""
        if (awake := entry.awake) is None or entry.kept:
            return
        self._tried.append((entry, awake, awake.activity.total))
        if len(self._tried) > MOST_AWAKE:
            first, its, total = self._tried.popleft()
            self._tasks.spawn(f"stop the trial start of {first.id}", self._make_room(first, its, total))

    async def _make_room(self, entry: Entry, awake: Awake, total: int) -> None:
        """Put a tried function to sleep, unless it was called."""
        await asyncio.sleep(SETTLE_SECONDS)
        if entry.awake is not awake:
            return
        load = await self._fleet.instances.load(awake.slot)
        if entry.awake is awake and load.total == total and not load.busy:
            reason = "its trial start made room for later deployments"
            await self._fleet.retirement.close(entry, reason)
