"""A live replay's accounting, on virtual time and without a platform."""

from __future__ import annotations

import asyncio
from array import array

import pytest
from replay_traces import traced

from rescoldo.model.errors import RescoldoError
from rescoldo.replay.arrivals import Schedule
from rescoldo.replay.client import Answer
from rescoldo.replay.outcome import Outcome, Setting
from rescoldo.replay.platform import Target
from rescoldo.replay.play import PATIENCE, Playing, play
from rescoldo.replay.trace import Trace

pytestmark = pytest.mark.looptime

TRACE = Trace("by hand", 0, (traced(0, 0, name="f000", memory=100.0), traced(0, 0, name="f001", memory=50.0)))
SPEED = 10.0


class Platform:
    """Functions that run for a given time, and a counter of instance seconds that a test sets."""

    def __init__(self, *seconds: list[float] | Exception) -> None:
        self._seconds = list(seconds)
        self.answers: dict[int, Answer | Exception] = {}
        self.extra = 0.0
        self.called: list[tuple[float, int]] = []

    async def call(self, place: int, seconds: float) -> Answer:
        self.called.append((asyncio.get_running_loop().time(), place))
        await asyncio.sleep(seconds + self.extra)
        answer = self.answers.get(place, Answer(200, {b"x-cold-start": b"true" if self.extra else b"false"}))
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def instance_seconds(self) -> list[float]:
        answer = self._seconds.pop(0) if len(self._seconds) > 1 else self._seconds[0]
        if isinstance(answer, Exception):
            raise answer
        return list(answer)


def calls(*all_calls: tuple[float, float, int]) -> Schedule:
    at, runs, place = zip(*all_calls, strict=True)
    return Schedule(array("d", at), array("d", runs), array("l", place))


async def run(platform: Platform, schedule: Schedule, said: list[str] | None = None) -> Outcome:
    playing = Playing(TRACE, platform, SPEED, (said if said is not None else []).append)
    return await playing.run(schedule, Setting())


async def test_calls_are_sent_at_the_traces_times_whether_others_were_answered_or_not() -> None:
    platform = Platform([0.0, 0.0])
    begin = asyncio.get_running_loop().time()
    outcome = await run(platform, calls((1.0, 30.0, 0), (2.0, 1.0, 1), (115.0, 1.0, 0)))
    assert [(round(at - begin, 2), place) for at, place in platform.called] == [(0.1, 0), (0.2, 1), (11.5, 0)]
    assert (outcome.calls, outcome.cold, outcome.failed) == (3, 0, 0)
    assert outcome.delays.at(100)[0] == pytest.approx(0.0, abs=0.002)
    assert outcome.late is not None and outcome.late.at(100)[0] < 0.002


async def test_the_delay_of_a_call_is_its_duration_minus_its_run() -> None:
    platform = Platform([0.0, 0.0])
    platform.extra = 0.25
    outcome = await run(platform, calls((1.0, 10.0, 0)))
    assert outcome.delays.at(100) == [pytest.approx(0.25, abs=0.002)]
    assert outcome.cold == 1


async def test_warm_memory_of_a_minute_is_instance_seconds_times_the_functions_size() -> None:
    # a minute of the trace is 6 s: f000 exists for 3 s and then 6 s, f001 for 0 s and then 3 s
    outcome = await run(Platform([5.0, 0.0], [8.0, 0.0], [14.0, 3.0]), calls((1.0, 1.0, 0)))
    assert outcome.warm == pytest.approx((50.0, 100.0 + 25.0), rel=0.01)


async def test_a_restarted_controller_counts_from_zero() -> None:
    outcome = await run(Platform([5.0, 0.0], [8.0, 0.0], [3.0, 0.0]), calls((1.0, 1.0, 0)))
    assert outcome.warm == pytest.approx((50.0, 50.0), rel=0.01)


async def test_an_unavailable_counter_is_polled_again_and_a_platform_that_stays_away_ends_the_replay() -> None:
    gone = RescoldoError("no gateway answers")
    outcome = await run(Platform([0.0, 0.0], gone, gone, [3.0, 0.0]), calls((1.0, 1.0, 0)))
    assert sum(outcome.warm) > 0
    begin = asyncio.get_running_loop().time()
    with pytest.raises(RescoldoError, match="no gateway answers"):
        await run(Platform([0.0, 0.0], gone), calls((1.0, 1.0, 0)))
    assert asyncio.get_running_loop().time() - begin < PATIENCE + 10


async def test_memory_in_use_counts_while_a_function_has_calls_in_flight() -> None:
    outcome = await run(Platform([0.0, 0.0]), calls((10.0, 20.0, 0), (20.0, 20.0, 0), (100.0, 40.0, 1)))
    assert outcome.used == pytest.approx((100.0 * 30 / 60, 50.0 * 20 / 60), rel=0.01)


async def test_failed_calls_are_counted_by_response_or_error() -> None:
    platform = Platform([0.0, 0.0])
    platform.answers = {0: Answer(503, {}, b"too many\nsecond line"), 1: RescoldoError("the connection ended")}
    outcome = await run(platform, calls((1.0, 0.0, 0), (2.0, 0.0, 0), (3.0, 0.0, 1)))
    assert dict(outcome.failures) == {"503: too many": 2, "the connection ended": 1}
    assert (outcome.calls, len(outcome.delays.some)) == (3, 0)


async def test_progress_is_printed_once_a_minute_of_the_trace() -> None:
    said: list[str] = []
    await run(Platform([0.0, 0.0], [6.0, 0.0]), calls((1.0, 1.0, 0), (115.0, 60.0, 0)), said)
    assert said == [
        "Playing 2 calls in 12 s",
        "minute 1 of 2: 1 calls, 0 cold, 0 failed, 66.7% warm",
        "minute 2 of 2: 2 calls, 0 cold, 0 failed, 0.0% warm",
        "The trace is over; waiting for 1 calls",
    ]


@pytest.mark.parametrize("speed", [0.0, -1.0, float("nan"), 1001.0])
def test_an_invalid_speed_is_refused(speed: float) -> None:
    with pytest.raises(RescoldoError, match="--speed"):
        play(TRACE, Setting(), Target("http://127.0.0.1:1"), speed=speed)
