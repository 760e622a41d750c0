"""A simulated trace: figures checked by hand, and those of the whole Azure sample."""

from __future__ import annotations

import math
from array import array
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_traces import traced

from rescoldo.model.scaling import Scaling
from rescoldo.policy.scaling import Sample, Spec, begin, decide
from rescoldo.replay import simulate as simulating
from rescoldo.replay.arrivals import Arrivals, arrivals_of, schedule_of
from rescoldo.replay.outcome import Delays, Outcome, Setting
from rescoldo.replay.scaled import Scaled
from rescoldo.replay.simulate import simulate
from rescoldo.replay.trace import Trace, part, read_trace

AZURE = Path(__file__).parents[3] / "bench" / "azure500"
UNLIMITED = 10**9

# For the whole sample: idle window in seconds, warm memory in per cent of always-on, starts a second. Others
# computed them from the mean of a function's durations; we draw from its percentiles, whose mean is 15 % higher for
# the few calls beyond the 99th (9.88 % instead of 8.39 % of always-on in use if every call had an instance of its
# own). That makes 0.15 points of memory with short windows and less with long ones.
TABLE = ((10.0, 13.6, 2.25), (60.0, 29.5, 0.94), (900.0, 64.6, 0.06))
POINTS = 0.25  # 0.15 plus the rounding of the table
STARTS = 0.03  # a second: longer calls leave fewer gaps (1 % at 10 s), plus rounding of the table and chance


def one(*at: float, runs: float = 1.0) -> Arrivals:
    return Arrivals(array("d", at), array("d", [runs] * len(at)))


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> object:
    """Simulate one function of 100 MB for two minutes, with calls at given times."""

    def play(arrivals: Arrivals, setting: Setting, cold_start: float = 0.0) -> Outcome:
        monkeypatch.setattr(simulating, "arrivals_of", lambda function, seed: arrivals)
        return simulate(Trace("by hand", 0, (traced(0, 0),)), [setting], cold_start=cold_start)[0]

    return play


def test_an_instance_is_held_from_its_wake_to_the_end_of_the_idle_window(played) -> None:
    outcome = played(one(5.0, 12.0, 100.0), Setting(window=10.0))
    # awake 5 to 23 and 100 to 111 s, with a call 5 to 6, 12 to 13 and 100 to 101
    assert outcome.warm == pytest.approx((100 * 18 / 60, 100 * 11 / 60))
    assert outcome.used == pytest.approx((100 * 2 / 60, 100 * 1 / 60))
    assert (outcome.calls, outcome.cold, outcome.failed) == (3, 2, 0)
    assert outcome.warm_share == pytest.approx(100 * 29 / 120)
    assert outcome.gb_seconds == pytest.approx(29 * 100 / 1024)


def test_an_instance_awake_across_minutes_counts_in_both_and_not_beyond_the_trace(played) -> None:
    outcome = played(one(59.0, 115.0), Setting(window=10.0))
    assert outcome.warm == pytest.approx((100 * 1 / 60, 100 * (10 + 5) / 60))


def test_a_call_within_the_window_is_warm_and_one_after_it_cold(played) -> None:
    assert played(one(0.0, 10.999), Setting(window=10.0)).cold == 1
    assert played(one(0.0, 11.0), Setting(window=10.0)).cold == 2


def test_calls_during_a_wake_wait_for_it_and_are_cold_too(played) -> None:
    outcome = played(one(1.0, 1.5, 3.5), Setting(), cold_start=2.0)
    assert outcome.cold == 2
    assert list(outcome.delays.some) == pytest.approx([2.0, 1.5])
    assert outcome.delays.none == 1


def test_calls_beyond_the_concurrency_wait_for_an_earlier_one_to_end(played) -> None:
    outcome = played(one(1.0, 1.25, 1.5), Setting(concurrency=1, most=1))
    assert list(outcome.delays.some) == pytest.approx([0.75, 1.5])
    assert outcome.delays.none == 1
    assert played(one(1.0, 1.25, 1.5), Setting(concurrency=2, most=1)).delays.none == 2


def test_a_full_instance_gets_another_beside_it_which_serves_waiting_calls(played) -> None:
    outcome = played(one(1.0, 1.25, 1.5, runs=10.0), Setting(window=10.0, concurrency=1), cold_start=0.5)
    # The first is ready at 1.5. The second starts at 1.25, when the slot is full, and is ready at 1.75. Only then may
    # more start, as running instances at most double: ready at 2.25
    assert list(outcome.delays.some) == pytest.approx([0.5, 0.5, 0.75])
    assert (outcome.cold, outcome.failed) == (3, 0)
    assert outcome.warm[0] > 100 * 3 * 10 / 60, "three instances while three calls run"


def test_instances_that_the_scaler_added_are_removed_again(played) -> None:
    burst = [10.0 + 0.001 * place for place in range(40)]
    steady = [10.0 + 0.5 * place for place in range(220)]
    calls = Arrivals(array("d", sorted(burst + steady)), array("d", [0.4] * 260))
    outcome = played(calls, Setting(window=10.0, concurrency=4))
    alone = played(calls, Setting(window=10.0, concurrency=4, most=1))
    assert outcome.delays.at(100) < alone.delays.at(100), "no call waits as long as with one instance"
    assert outcome.warm[0] > alone.warm[0] * 1.5
    assert outcome.warm[1] < outcome.warm[0] * 1.5


@pytest.mark.slow
@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 5)), max_size=100))
@settings(deadline=None, max_examples=60)
def test_deferred_looks_give_the_same_decisions_as_immediate_ones(loads: list[tuple[int, int]]) -> None:
    spec = Spec(Scaling(target=10.0), 1, 20, 10)
    scaled, running = Scaled(spec), 1
    scaled.begin(0.0)
    state, expected = begin(0.0, 1), 1
    at = 0.0
    for load, gap in loads:
        at += 1.0 + gap
        queued = max(0, load - 10 * running)
        sample = Sample(at, load, queued)
        decision, state = decide(spec, state, sample, expected)
        running, expected = scaled.look(at, load, queued, running), decision.wanted
        assert running == expected


def test_calls_that_wait_too_long_or_exceed_the_queue_fail(played) -> None:
    slow = played(one(*[0.001 * place for place in range(5)], runs=20.0), Setting(concurrency=1, most=1))
    assert dict(slow.failures) == {"503: no instance could take the request in time": 3}
    many = played(one(*[0.001 * place for place in range(1003)], runs=60.0), Setting(concurrency=1, most=1))
    assert many.failures["429: too many requests are waiting"] == 2


def test_a_seed_always_gives_the_same_calls_and_another_gives_others() -> None:
    function = traced(5, 0, 7, runs=(0.0, 0.1, 0.2, 0.4, 0.8, 1.0, 2.0))
    assert arrivals_of(function, 1) == arrivals_of(function, 1)
    assert arrivals_of(function, 1) != arrivals_of(function, 2)


def test_calls_are_in_order_in_their_minutes_and_runs_follow_the_percentiles() -> None:
    arrivals = arrivals_of(traced(4000, 0, 5, runs=(0.0, 0.1, 0.2, 0.4, 0.8, 1.0, 2.0)), 1)
    assert len(arrivals.at) == len(arrivals.runs) == 4005
    assert list(arrivals.at) == sorted(arrivals.at)
    assert (arrivals.at[0] >= 0, arrivals.at[3999] < 60, arrivals.at[4000] >= 120, arrivals.at[-1] < 180) == (True,) * 4
    ordered = sorted(arrivals.runs)
    assert [ordered[len(ordered) * p // 100] for p in (25, 50, 75)] == pytest.approx([0.2, 0.4, 0.8], rel=0.1)
    assert ordered[0] >= 0 and ordered[-1] <= 2.0


def test_a_schedule_has_the_calls_of_all_functions_in_order() -> None:
    trace = Trace("by hand", 0, (traced(3, name="f000"), traced(2, name="f001")))
    schedule = schedule_of(trace, 0)
    assert list(schedule.at) == sorted(schedule.at)
    assert sorted(schedule.function) == [0, 0, 0, 1, 1]


def test_percentiles_count_calls_that_did_not_wait() -> None:
    delays = Delays(none=98, some=array("d", [2.0, 1.0]))
    assert delays.at(50, 98, 99, 100) == [0.0, 0.0, 1.0, 2.0]
    assert delays.mean == pytest.approx(0.03)
    assert Delays().at(50) == [0.0]


def by_intervals(trace: Trace, window: float) -> tuple[float, int]:
    """Warm MB x seconds and starts, computed differently: each call is an interval of its run plus the window."""
    warm, starts = 0.0, 0
    for function in trace.functions:
        arrivals = arrivals_of(function, 0)
        until = -math.inf
        for at, runs in zip(arrivals.at, arrivals.runs, strict=True):
            starts += at >= until
            new = max(until, at + runs + window)
            begin = max(at, until)
            warm += function.memory * max(0.0, min(new, trace.seconds) - min(begin, trace.seconds))
            until = new
    return warm, starts


@pytest.mark.parametrize("window", [1.0, 10.0, 60.0, 900.0])
def test_without_limits_the_simulation_equals_arithmetic_on_intervals(window: float) -> None:
    trace = part(read_trace(AZURE), minutes=60, functions=20)
    (outcome,) = simulate(trace, [Setting(window, UNLIMITED, most=1)], cold_start=0.0)
    warm, starts = by_intervals(trace, window)
    assert sum(outcome.warm) * 60 == pytest.approx(warm)
    assert (outcome.cold, outcome.failed, outcome.delays.at(100)) == (starts, 0, [0.0])


@pytest.mark.slow
def test_the_whole_azure_sample_gives_the_known_figures() -> None:
    trace = read_trace(AZURE)
    compared = [Setting(window, UNLIMITED, most=1) for window, _, _ in TABLE]
    for outcome, (window, warm, starts) in zip(simulate(trace, compared, cold_start=0.0), TABLE, strict=True):
        assert outcome.warm_share == pytest.approx(warm, abs=POINTS), f"at {window:g} s"
        assert outcome.cold / trace.seconds == pytest.approx(starts, abs=STARTS), f"at {window:g} s"


def test_a_longer_window_holds_more_memory_and_wakes_less_often() -> None:
    trace = part(read_trace(AZURE), minutes=10, functions=40)
    outcomes = simulate(trace, [Setting(window) for window in (1.0, 10.0, 60.0, math.inf)])
    shares, colds = [o.warm_share for o in outcomes], [o.cold for o in outcomes]
    assert shares == sorted(shares) and shares[-1] < 100
    assert colds == sorted(colds, reverse=True)
    assert colds[-1] >= sum(any(function.calls) for function in trace.functions)
