"""Plays a trace in virtual time: the platform's own policies decide, no process starts.

The simulation covers wakes, queues, sleep and the memory of instances. It leaves out the delays of a machine that is
short of cpu or memory: the live replay shows those.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from heapq import heappop, heappush

from rescoldo.model.limits import Limits
from rescoldo.model.scaling import scaling_of
from rescoldo.policy.idle import Activity, due
from rescoldo.policy.scaling import Spec
from rescoldo.replay.arrivals import Arrivals, arrivals_of
from rescoldo.replay.outcome import CostCounter, Outcome, Setting
from rescoldo.replay.scaled import Scaled
from rescoldo.replay.trace import Trace

NEVER = math.inf
COLD_START = 0.005  # seconds
TOLD_SECONDS = 0.02  # between two looks at a full slot, as in control/fleet/scaler.py
LOOK_SECONDS = 1.0  # between two looks at a function with traffic; the platform's 0.25 s gives the same, at more cost
QUEUED_SECONDS = 0.25  # while calls wait
QUEUE_SECONDS = 30.0  # that a request waits for an instance; then 503
MAX_QUEUE = Limits().max_queue  # requests that wait for one function's instances; then 429

Progress = Callable[[int, int], None]  # called with the functions done and their total


class _Function:
    """Simulates one function of a trace under one setting. All times are seconds from the start of the trace."""

    def __init__(self, memory: float, setting: Setting, cold_start: float, costs: CostCounter) -> None:
        self._memory = memory
        self._setting = setting
        self._cold_start = cold_start
        self._costs = costs
        self._scaled = Scaled(spec_of(setting))
        self._ends: list[float] = []  # heap of the end times of calls in flight
        self._queue: deque[tuple[float, float]] = deque()  # arrival and duration of queued calls
        self._instances = 0  # instances that take calls; 0: asleep
        self._starting: deque[float] = deque()  # when further instances will take calls
        self._ready_at = 0.0  # when the first instance takes calls
        self._counted_at = 0.0  # the costs have the memory up to this time
        self._look_at = NEVER  # when the scaler looks next
        self._told_at = -NEVER  # when the scaler last reacted to a full slot
        self._sleeps_at = NEVER  # when it may sleep; NEVER while a call is in flight

    def call(self, at: float, runs: float) -> None:
        """Take a call that arrives at `at` and runs for `runs` seconds; calls must come in order."""
        self._costs.calls += 1
        self.advance(at)
        if not self._instances:
            self._wake(at)
        if at <= self._ready_at:
            self._costs.cold += 1
        if not self._ends:
            self._count(at)
            self._sleeps_at = NEVER
            if self._look_at < at or self._look_at == NEVER:
                self._look_at = at + LOOK_SECONDS
        if len(self._ends) < self._instances * self._setting.concurrency:
            self._begin(at, at, runs)
        elif len(self._queue) < MAX_QUEUE:
            self._queue.append((at, runs))
            self._full(at)
        else:
            self._costs.fail("429: too many requests are waiting")

    def advance(self, now: float) -> None:
        """Simulate up to `now`: calls end, queued calls begin, instances start and stop, an idle function sleeps."""
        ends = self._ends
        while True:
            ended = ends[0] if ends else NEVER
            started = self._starting[0] if self._starting else NEVER
            event = min(ended, started, self._look_at)
            if self._sleeps_at <= now and self._sleeps_at <= event:
                self._sleep(self._sleeps_at)
            elif event > now:
                return
            elif event == ended:
                self._end(heappop(ends))
            elif event == started:
                self._starting.popleft()
                self._instances += 1
                self._serve_queue(event)
            else:
                self._look(event)

    def finish(self, end: float) -> None:
        """End the trace at `end`: count the memory until then, and the waits of calls still queued."""
        self.advance(end)
        self._count(end)
        for came, _ in self._queue:
            self._costs.delays.some.append(end - came)

    # -- calls

    def _begin(self, now: float, came: float, runs: float) -> None:
        start = now if now > self._ready_at else self._ready_at
        heappush(self._ends, start + runs)
        if start > came:
            self._costs.delays.some.append(start - came)
        else:
            self._costs.delays.none += 1

    def _end(self, now: float) -> None:
        self._serve_queue(now)
        if not self._ends:
            self._count(now, busy=True)
            self._sleeps_at = due(Activity(now, 0), self._setting.window)

    def _serve_queue(self, now: float) -> None:
        while self._queue and len(self._ends) < self._instances * self._setting.concurrency:
            came, runs = self._queue.popleft()
            if now - came <= QUEUE_SECONDS:
                self._begin(now, came, runs)
            else:
                self._costs.fail("503: no instance could take the request in time")

    # -- instances

    def _wake(self, now: float) -> None:
        self._instances, self._ready_at, self._counted_at = 1, now + self._cold_start, now
        self._look_at = now + LOOK_SECONDS
        self._scaled.begin(now)

    def _sleep(self, now: float) -> None:
        self._count(now)
        self._instances, self._sleeps_at, self._look_at = 0, NEVER, NEVER
        self._starting.clear()

    def _full(self, now: float) -> None:
        """Scale at once for a full slot, but at most once in TOLD_SECONDS."""
        if now - self._told_at >= TOLD_SECONDS:
            self._told_at = now
            self._scale(now)
            self._look_at = min(self._look_at, now + QUEUED_SECONDS)

    def _look(self, now: float) -> None:
        self._scale(now)
        # an idle function with one instance needs no look before its next call
        pause = QUEUED_SECONDS if self._queue else LOOK_SECONDS
        self._look_at = now + pause if self._ends or self._instances > 1 else NEVER

    def _scale(self, now: float) -> None:
        load, running = len(self._ends) + len(self._queue), self._instances
        wanted = self._scaled.look(now, load, len(self._queue), running)
        if wanted != running + len(self._starting):
            self._count(now)
            for _ in range(wanted - running - len(self._starting)):
                self._starting.append(now + self._cold_start)
            self._instances = min(running, wanted)

    def _count(self, now: float, *, busy: bool | None = None) -> None:
        """Add the memory since the last count to the costs; all instances count as used while a call is in flight."""
        memory = self._memory * (self._instances + len(self._starting))
        if memory:
            self._costs.add(self._costs.warm, self._counted_at, now, memory)
            if self._ends if busy is None else busy:
                self._costs.add(self._costs.used, self._counted_at, now, memory)
        self._counted_at = now


def spec_of(setting: Setting) -> Spec:
    """The scaler's spec of a function deployed with `setting`."""
    return Spec(scaling_of({}, {}, setting.concurrency), 1, setting.most, setting.concurrency)


def simulate(trace: Trace, settings: Sequence[Setting], *, cold_start: float = COLD_START, seed: int = 0,
             progress: Progress | None = None) -> list[Outcome]:  # fmt: skip
    """Play `trace` under each of `settings`, with the same calls for all; `cold_start` is in seconds."""
    counters = [CostCounter(trace.minutes) for _ in settings]
    for done, function in enumerate(trace.functions, 1):
        arrivals = arrivals_of(function, seed)
        for setting, costs in zip(settings, counters, strict=True):
            _play(arrivals, _Function(function.memory, setting, cold_start, costs), trace.seconds)
        if progress is not None:
            progress(done, len(trace.functions))
    return [costs.outcome(trace, setting) for setting, costs in zip(settings, counters, strict=True)]


def _play(arrivals: Arrivals, function: _Function, end: float) -> None:
    call = function.call
    for at, runs in zip(arrivals.at, arrivals.runs, strict=True):
        call(at, runs)
    function.finish(end)
