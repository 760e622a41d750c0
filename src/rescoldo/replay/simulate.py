"""A trace in virtual time: the platform's own policies decide, nothing is started.

Simulated are waking, queueing, sleeping and what instances hold meanwhile. What a machine adds when it is short of
cpu or memory is not: for that there is the live replay.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from heapq import heappop, heappush

from rescoldo.model.limits import Limits
from rescoldo.policy.idle import Activity, due
from rescoldo.replay.arrivals import Arrivals, arrivals_of
from rescoldo.replay.outcome import Outcome, Setting, Tally
from rescoldo.replay.trace import Trace

COLD_START = 0.005  # seconds
QUEUE_SECONDS = 30.0  # that a request waits for an instance; then 503
MAX_QUEUE = Limits().max_queue  # requests that wait for one function's instances; then 429

Progress = Callable[[int, int], None]  # functions done, of how many


class _Function:
    """One function of a trace under one setting."""

    def __init__(self, memory: float, setting: Setting, cold_start: float, tally: Tally) -> None:
        self._memory = memory
        self._window = setting.window
        self._room = setting.concurrency
        self._cold_start = cold_start
        self._tally = tally
        self._ends: list[float] = []  # of calls in flight; a heap
        self._queue: deque[tuple[float, float]] = deque()  # when it came, how long it runs
        self._awake_at = self._ready_at = self._busy_at = 0.0
        self._idle_at: float | None = None  # when the last call ended; None while there is one
        self._awake = False

    def call(self, at: float, runs: float) -> None:
        """A call comes; calls must come in order."""
        tally = self._tally
        tally.calls += 1
        self.advance(at)
        if not self._awake:
            self._awake, self._awake_at, self._ready_at = True, at, at + self._cold_start
            tally.cold += 1
        elif at < self._ready_at:
            tally.cold += 1
        if not self._ends:
            self._idle_at, self._busy_at = None, at
        if len(self._ends) < self._room:
            self._begin(at, at, runs)
        elif len(self._queue) < MAX_QUEUE:
            self._queue.append((at, runs))
        else:
            tally.fail("429: too many requests are waiting")

    def _begin(self, now: float, came: float, runs: float) -> None:
        start = now if now > self._ready_at else self._ready_at
        heappush(self._ends, start + runs)
        if start > came:
            self._tally.delays.some.append(start - came)
        else:
            self._tally.delays.none += 1

    def advance(self, now: float) -> None:
        """Let time pass: calls end, queued ones begin, an idle function sleeps."""
        ends = self._ends
        while ends and ends[0] <= now:
            end = heappop(ends)
            while self._queue:
                came, runs = self._queue.popleft()
                if end - came <= QUEUE_SECONDS:
                    self._begin(end, came, runs)
                    break
                self._tally.fail("503: no instance could take the request in time")
            if not ends:
                self._idle_at = end
                self._tally.add(self._tally.used, self._busy_at, end, self._memory)
        if self._idle_at is not None:
            sleeps_at = due(Activity(self._idle_at, 0), self._window)
            if sleeps_at <= now:
                self._tally.add(self._tally.warm, self._awake_at, sleeps_at, self._memory)
                self._awake, self._idle_at = False, None

    def finish(self, end: float) -> None:
        """The trace is over; what still runs has been held until now."""
        self.advance(end)
        if self._awake:
            self._tally.add(self._tally.warm, self._awake_at, end, self._memory)
            if self._ends:
                self._tally.add(self._tally.used, self._busy_at, end, self._memory)
            for came, _ in self._queue:
                self._tally.delays.some.append(end - came)


def simulate(trace: Trace, settings: Sequence[Setting], *, cold_start: float = COLD_START, seed: int = 0,
             progress: Progress | None = None) -> list[Outcome]:  # fmt: skip
    """Play `trace` under each of `settings`; the same calls for all. `cold_start` in seconds."""
    tallies = [Tally(trace.minutes) for _ in settings]
    for done, function in enumerate(trace.functions, 1):
        arrivals = arrivals_of(function, seed)
        for setting, tally in zip(settings, tallies, strict=True):
            _play(arrivals, _Function(function.memory, setting, cold_start, tally), trace.seconds)
        if progress is not None:
            progress(done, len(trace.functions))
    return [tally.outcome(trace, setting) for setting, tally in zip(settings, tallies, strict=True)]


def _play(arrivals: Arrivals, function: _Function, end: float) -> None:
    call = function.call
    for at, runs in zip(arrivals.at, arrivals.runs, strict=True):
        call(at, runs)
    function.finish(end)
