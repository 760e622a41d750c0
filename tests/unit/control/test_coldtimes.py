"""The phases of cold calls: shares, timestamps, histograms and metrics."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rescoldo.control.fleet.lifetimes import Lifetimes
from rescoldo.control.observe.coldtimes import BOUNDS, MOST_FUNCTIONS, ROWS, ColdLog, ColdTimes
from rescoldo.control.observe.metrics import Waking, render
from rescoldo.control.observe.recorder import Recorder
from rescoldo.edge.accesslog import tally
from rescoldo.model.coldstart import PHASES, ColdCall, StartTimes, took_by
from rescoldo.model.names import FunctionId, function_id
from rescoldo.store.memory import MemoryStore
from rescoldo.store.protocol import Condition

FN = function_id("fn")
CALL = ColdCall(FN, 50, 100, 1200, 3000, 400, 900)
COUNTS = st.integers(0, 10**8)
SECONDS = st.floats(0, 1e6)


def line(told: str, active: int = 9) -> bytes:
    return f"{FN} 200 {told} 1795413920 {active} 5 0 55 52".encode()


def colds(told: str, active: int = 9) -> list[ColdCall]:
    return tally([line(told, active)])[1]


# -- shares and timestamps


def test_a_late_call_waits_only_for_the_last_phases_of_a_wake() -> None:
    took = StartTimes(100, 200, 300, 40)
    assert took.within(400) == StartTimes(0, 60, 300, 40)
    assert took.within(10_000) == took
    assert took.within(0) == took.within(-5) == StartTimes()


@given(st.builds(StartTimes, COUNTS, COUNTS, COUNTS, COUNTS), COUNTS)
def test_a_share_never_exceeds_the_wait_or_the_duration_of_the_wake(took: StartTimes, waited: int) -> None:
    share = took.within(waited)
    assert sum(share) == min(waited, sum(took))
    assert all(0 <= mine <= whole for mine, whole in zip(share, took, strict=True))


def test_the_timestamps_of_a_start_give_its_phases() -> None:
    assert took_by(70, 10.0, 10.002, 10.005, 10.0051) == StartTimes(70, 2000, 3000, 100)


def test_a_program_loads_until_it_accepts_and_takes_no_time_to_listen() -> None:
    assert took_by(70, 10.0, 10.002, None, 10.005) == StartTimes(70, 2000, 3000, 0)


WORDS = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=3), st.floats(), st.lists(st.none()))


@given(SECONDS, SECONDS, WORDS, WORDS)
def test_timestamps_that_a_function_reports_cannot_change_the_duration_of_its_start(
    ordered: float, lasted: float, began: object, loaded: object
) -> None:
    ready = ordered + lasted
    took = took_by(5, ordered, began, loaded, ready)
    assert min(took) >= 0
    assert sum(took) - 5 == pytest.approx((ready - ordered) * 1e6, abs=3)


# -- lines of the edge's access log


def test_the_phases_of_a_line_add_up_to_the_time_to_the_first_byte() -> None:
    (call,) = colds("cold:5650:4750:100:1200:3000:400")
    assert call == CALL
    assert sum(call[1:]) == 5650


def test_a_hold_that_began_after_the_start_has_only_its_share() -> None:
    assert colds("cold:2000:1500:100:1200:3000:400") == [ColdCall(FN, 0, 0, 0, 1100, 400, 500)]


@pytest.mark.parametrize(
    "told",
    [
        "-",
        "cold",  # refused, or the client left
        "cold::",
        "cold:5000:4000",
        "cold:5000:4000:1:1:1",
        "cold:5000:6000:1:1:1:1",  # held for longer than the whole call
        "cold:-5000:4000:1:1:1:1",
        "cold:3600000000:4000:1:1:1:1",  # the clock was changed by an hour
        "cold:5000:4000:1:-1:1:1",
    ],
)
def test_a_line_without_valid_phases_is_still_counted(told: str) -> None:
    calls, found, _ = tally([line(told)])
    assert found == []
    assert [(key.cold, sums.calls) for key, sums in calls.items()] == [(told != "-", 1)]


def test_cold_calls_of_one_kind_are_counted_together() -> None:
    told = ("cold:5650:4750:100:1200:3000:400", "cold:5651:4750:100:1200:3000:400", "cold")
    calls = tally(map(line, told)).calls
    assert [(key.cold, sums.calls, sums.queue_ms) for key, sums in calls.items()] == [(True, 3, 15)]


# -- histograms


def test_a_median_is_interpolated_within_its_bucket() -> None:
    times = ColdTimes()
    for _ in range(40):
        times.add([1000, 0, 0, 0, 0, 0])
    for _ in range(60):
        times.add([1500, 0, 0, 0, 0, 0])
    queue = times.summary({}).phases["queue"]
    # 1 ms + 0.5 ms * (50 - 40) / 60
    assert queue.median == pytest.approx(0.001083)
    assert (queue.mean, queue.max, queue.last) == (0.0013, 0.0015, 0.0015)


def test_the_times_of_a_single_call_are_exact() -> None:
    times = ColdTimes()
    times.add(CALL[1:])
    assert {name: one.median for name, one in times.summary({}).phases.items()} == {
        "queue": 0.00005, "slot": 0.0001, "fork": 0.0012, "load": 0.003, "listen": 0.0004, "first_byte": 0.0009,
        "total": 0.00565,
    }  # fmt: skip


@given(st.lists(st.lists(COUNTS, min_size=6, max_size=6), min_size=1, max_size=30))
def test_every_call_is_in_every_histogram_and_no_estimate_exceeds_the_maximum(calls: list[list[int]]) -> None:
    times = ColdTimes()
    for took in calls:
        times.add(took)
    found = times.summary({})
    assert list(found.phases) == [*PHASES, "total"]
    for number, name in enumerate(ROWS):
        mine = [sum(took) if name == "total" else took[number] for took in calls]
        below, total = times.histogram(name)
        assert below == [sum(time <= bound for time in mine) for bound in (*BOUNDS, float("inf"))]
        assert total == pytest.approx(sum(mine) / 1e6)
        one = found.phases[name]
        assert min(mine) / 1e6 <= one.median <= one.p99 <= one.max == max(mine) / 1e6
        assert one.last == mine[-1] / 1e6


def test_there_are_no_phases_before_the_first_call() -> None:
    assert ColdTimes().summary({"busy": 2}).phases == {}
    assert ColdTimes().summary({"busy": 2}).failed == {"busy": 2}


def test_a_function_has_its_own_times_until_it_is_forgotten() -> None:
    log = ColdLog()
    log.record([CALL, CALL, CALL._replace(function=function_id("other"))])
    assert (log.all.calls, log.of(FN).calls, log.of(function_id("nobody")).calls) == (3, 2, 0)
    log.forget(FN)
    assert (log.all.calls, log.of(FN).calls) == (3, 0)


def test_the_number_of_remembered_functions_is_bounded() -> None:
    log = ColdLog()
    log.record(CALL._replace(function=FunctionId(f"f{number}.ns")) for number in range(MOST_FUNCTIONS + 1))
    assert log.of(FunctionId("f0.ns")).calls == 0
    assert log.of(FunctionId("f1.ns")).calls == 1


def test_the_times_of_a_function_take_little_more_than_a_kilobyte() -> None:
    times = ColdTimes()
    parts = [getattr(times, name) for name in ColdTimes.__slots__ if name != "calls"]
    assert sum(map(sys.getsizeof, [times, *parts])) < 1400


async def test_metrics_have_a_histogram_of_each_phase_and_count_wakes() -> None:
    recorder = Recorder(MemoryStore(), lambda function, count: None)
    recorder.cold.record([CALL])
    waking = Waking(held=7, holds=9, wakes=3, failed={"crashed": 2})
    text = (await render(recorder, {}, Lifetimes(), waking, None, {}, Condition())).decode()
    for expected in (
        'rescoldo_cold_start_seconds_bucket{le="0.001",phase="fork"} 0.0',
        'rescoldo_cold_start_seconds_bucket{le="0.0015",phase="fork"} 1.0',
        'rescoldo_cold_start_seconds_bucket{le="+Inf",phase="first_byte"} 1.0',
        'rescoldo_cold_start_seconds_sum{phase="load"} 0.003',
        "rescoldo_cold_call_seconds_sum 0.00565",
        "rescoldo_wakes_total 3.0",
        'rescoldo_failed_wakes_total{reason="crashed"} 2.0',
        'rescoldo_failed_wakes_total{reason="timeout"} 0.0',
        "rescoldo_holds_total 9.0",
        "rescoldo_held_requests 7.0",
    ):
        assert f"\n{expected}\n" in text, expected
