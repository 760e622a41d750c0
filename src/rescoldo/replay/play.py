"""Plays a trace on a running platform: real processes, real requests, compressed time.

An open loop: each call is sent at its time in the trace, whether earlier calls have been answered or not. Arrival
times, durations and idle windows are all divided by the speed, so that the same functions are awake at each moment of
the trace as at speed 1. The platform's own times are not compressed, neither those of a wake nor those until it knows
that a function is idle: at a high speed they weigh more.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvloop

from rescoldo.model.errors import InvalidInput, RescoldoError
from rescoldo.replay.arrivals import Schedule, schedule_of
from rescoldo.replay.outcome import CostCounter, Delays, Outcome, Setting
from rescoldo.replay.platform import Deployed, Say, Target, deployed
from rescoldo.replay.trace import SECONDS, Trace

SPEED = 10.0
MAX_SPEED = 1000.0
MAX_CALLS = 20_000_000  # in one live replay; each takes about 100 bytes until it is sent
NEAR = 0.0005  # seconds; timers are no more exact than this
PATIENCE = 30.0  # seconds without an answer about instance seconds before a replay gives up
RETRY_SECONDS = 0.1
ENDINGS = (signal.SIGTERM, signal.SIGHUP)  # unhandled, they would end the process and leave the functions deployed
BREATH = 50  # calls sent in a row before answers are read


def play(trace: Trace, setting: Setting, target: Target, *, speed: float = SPEED, seed: int = 0,
         say: Say = lambda line: None) -> Outcome:  # fmt: skip
    """Deploy the functions of `trace` on a running platform, play its calls, remove the functions; return the figures.

    `speed` divides arrival times, durations and the setting's idle window. `say` gets lines about the progress. Memory
    is a function's memory in the trace times the seconds that its instances existed, as the platform counts them.
    Raises RescoldoError when the platform cannot be used; failed calls are counted instead. Ctrl-C, SIGTERM and SIGHUP
    remove the functions, too, and raise KeyboardInterrupt.
    """
    if not 0 < speed <= MAX_SPEED:
        raise InvalidInput(f"--speed {speed:g}: use a number above 0, at most {MAX_SPEED:g}")
    if trace.calls > MAX_CALLS:
        raise InvalidInput(f"{trace.calls} calls are more than {MAX_CALLS}; choose --minutes or --functions")
    try:
        return uvloop.run(_play(trace, setting, target, speed, schedule_of(trace, seed), say))
    except asyncio.CancelledError:  # by one of ENDINGS
        raise KeyboardInterrupt from None


async def _play(
    trace: Trace, setting: Setting, target: Target, speed: float, schedule: Schedule, say: Say
) -> Outcome:
    with _cancelled_by_signals():
        async with deployed(trace, setting, target, speed, say) as functions:
            return await Playing(trace, functions, speed, say).run(schedule, setting)


@contextmanager
def _cancelled_by_signals() -> Iterator[None]:
    """Let ENDINGS cancel the present task inside the context."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    heeded = [number for number in ENDINGS if signal.getsignal(number) is signal.SIG_DFL]  # nohup ignores SIGHUP
    for number in heeded:
        loop.add_signal_handler(number, task.cancel)
    try:
        yield
    finally:
        for number in heeded:
            loop.remove_signal_handler(number)


class Playing:
    """Runs one live replay. Figures are in seconds of the trace, not of the clock."""

    def __init__(self, trace: Trace, functions: Deployed, speed: float, say: Say) -> None:
        self._trace = trace
        self._functions = functions
        self._speed = speed
        self._say = say
        self._costs = CostCounter(trace.minutes)
        self._late = Delays()
        self._begin = 0.0  # on the loop's clock
        self._clock: Callable[[], float] = asyncio.get_running_loop().time
        self._in_flight = [0] * len(trace.functions)
        self._busy_since = [0.0] * len(trace.functions)

    async def run(self, schedule: Schedule, setting: Setting) -> Outcome:
        """Send the calls of `schedule`, count memory meanwhile, wait for the last call. Raises RescoldoError."""
        self._say(f"Playing {len(schedule.at)} calls in {self._trace.seconds / self._speed:.0f} s")
        before = await self._functions.instance_seconds()
        self._begin = self._clock()
        try:
            async with asyncio.TaskGroup() as group:
                counting = group.create_task(self._count_memory(before))
                await self._send_all(schedule, group)
                await counting
                if pending := sum(self._in_flight):
                    self._say(f"The trace is over; waiting for {pending} calls")
        except* RescoldoError as errors:  # from _count_memory: `_call` counts failed calls
            raise errors.exceptions[0] from None
        return self._costs.outcome(self._trace, setting, self._late)

    async def _send_all(self, schedule: Schedule, group: asyncio.TaskGroup) -> None:
        calls = zip(schedule.at, schedule.runs, schedule.function, strict=True)
        for sent, (at, runs, place) in enumerate(calls):
            due = self._begin + at / self._speed
            if (wait := due - self._clock()) > NEAR:
                await asyncio.sleep(wait)
            elif sent % BREATH == 0:
                await asyncio.sleep(0)
            group.create_task(self._call(place, runs / self._speed, due))

    async def _call(self, place: int, runs: float, due: float) -> None:
        begin = self._clock()
        self._late.some.append(max(0.0, begin - due))
        if not self._in_flight[place]:
            self._busy_since[place] = begin
        self._in_flight[place] += 1
        costs = self._costs
        costs.calls += 1
        try:
            answer = await self._functions.call(place, runs)
            end = self._clock()
            costs.cold += answer.headers.get(b"x-cold-start") == b"true"
            if answer.status == 200:
                costs.delays.some.append(max(0.0, end - begin - runs))
            else:
                costs.fail(f"{answer.status}: {answer.text.partition(chr(10))[0][:120]}")
        except RescoldoError as error:
            costs.fail(error.message[:120])
        finally:
            self._in_flight[place] -= 1
            if not self._in_flight[place]:
                self._busy(place, self._busy_since[place], self._clock())

    def _busy(self, place: int, begin: float, end: float) -> None:
        memory = self._trace.functions[place].memory
        self._costs.add(self._costs.used, self._moment(begin), self._moment(end), memory)

    async def _count_memory(self, before: list[float]) -> None:
        """Read the instance seconds once in each minute of the trace and add the memory to the costs."""
        looked = self._begin
        for minute in range(self._trace.minutes):
            await asyncio.sleep(self._begin + (minute + 1) * SECONDS / self._speed - self._clock())
            now = await self._instance_seconds()
            at = self._clock()
            for place, (function, new, old) in enumerate(zip(self._trace.functions, now, before, strict=True)):
                existed = new - old if new >= old else new  # a restarted controller counts from 0
                before[place] = new
                average = existed / (at - looked)
                self._costs.warm[minute] += average * SECONDS * function.memory
            looked = at
            self._progress(minute + 1)

    async def _instance_seconds(self) -> list[float]:
        """Read the instance seconds; retry for PATIENCE seconds, in which a killed controller restarts."""
        deadline = self._clock() + PATIENCE
        while True:
            try:
                return await self._functions.instance_seconds()
            except RescoldoError:
                if self._clock() > deadline:
                    raise
                await asyncio.sleep(RETRY_SECONDS)

    def _progress(self, minute: int) -> None:
        costs = self._costs
        self._say(
            f"minute {minute} of {self._trace.minutes}: {costs.calls} calls, {costs.cold} cold, "
            f"{costs.failures.total()} failed, {costs.warm[minute - 1] / SECONDS / self._trace.memory:.1%} warm"
        )

    def _moment(self, clock: float) -> float:
        return (clock - self._begin) * self._speed
