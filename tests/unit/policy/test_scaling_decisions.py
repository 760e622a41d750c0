"""The scaler's decisions on virtual time."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rescoldo.model.scaling import CPU, RPS, WEIGHTED, Scaling
from rescoldo.policy.scaling import Decision, Sample, ScalingState, Spec, average, begin, decide, observe

SPEC = Spec(Scaling(), minimum=1, maximum=20, limit=32)  # 22.4 concurrent requests for each instance
EVERY = 0.25  # seconds between samples


class Function:
    """A function whose instances start and stop at once, as `decide` wants."""

    def __init__(self, spec: Spec = SPEC, running: int = 1) -> None:
        self.spec = spec
        self.now = 0.0
        self.running = running
        self.state: ScalingState = begin(0.0, running)
        self.decision: Decision | None = None

    def see(
        self, load: int, seconds: float = EVERY, *, queued: int = 0, begun: int = 0, cpu: float = 0.0,
        every: float = EVERY,
    ) -> int:
        """Decide on samples of `load` for `seconds`; return the number of instances."""
        for _ in range(max(1, round(seconds / every))):
            self.now += every
            sample = Sample(self.now, load, queued, begun, cpu)
            self.decision, self.state = decide(self.spec, self.state, sample, self.running)
            self.running = self.decision.wanted
        return self.running

    @property
    def told(self) -> Decision:
        assert self.decision is not None
        return self.decision


def scaled(**changes: object) -> Spec:
    return replace(SPEC, scaling=replace(SPEC.scaling, **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("load", "instances"), [(0, 1), (1, 1), (22, 1), (23, 2), (100, 5), (224, 10), (225, 11), (5000, 20)]
)
def test_a_steady_load_gets_an_instance_for_each_multiple_of_the_target(load: int, instances: int) -> None:
    assert Function().see(load, 70) == instances


def test_a_decision_has_its_figures_and_its_reason() -> None:
    function = Function()
    function.see(20, 30)
    assert function.told == Decision(1, "20.0 requests at once on average over 60 s", 20.0, 20.0, panicking=False)


def test_a_load_for_twice_the_running_instances_is_a_panic_and_uses_the_short_window() -> None:
    function = Function()
    function.see(10, 60)
    assert function.see(100, 6) == 5
    assert (function.told.panicking, function.told.reason) == (True, "panic mode: the average of the panic window")
    assert function.told.panic == pytest.approx(100, rel=0.2)
    assert function.told.stable < 22.4


def test_after_a_panic_no_instance_is_removed_within_a_stable_window() -> None:
    function = Function()
    function.see(10, 60)
    assert function.see(100, 10) == 5
    panicked = function.state.panic_at
    assert panicked is not None
    while function.see(10) == 5:
        pass
    assert function.now - panicked == 60.0


def test_a_slow_rise_is_not_a_panic() -> None:
    function = Function(running=3)
    function.see(60, 61)
    for load in range(60, 120, 2):
        function.see(load, 15)
        assert not function.told.panicking
    assert function.running == 6


def test_queued_requests_at_most_double_the_running_instances_at_once() -> None:
    function = Function()
    assert [function.see(200, 0.02, queued=168, every=0.02) for _ in range(5)] == [2, 4, 8, 9, 9]
    assert function.see(1, 5) == 9
    assert function.told.reason == "requests queued within the last 6 s"


def test_instances_for_a_queue_stay_for_a_panic_window_and_longer_only_if_the_averages_need_them() -> None:
    passing, lasting = Function(), Function()
    for function in (passing, lasting):
        assert [function.see(200, 0.02, queued=168, every=0.02) for _ in range(5)][-1] == 9
    passing.see(1, 10)
    lasting.see(200, 10)
    assert (passing.running, lasting.running) == (1, 9)


def test_many_short_calls_that_waited_for_one_wake_start_few_instances() -> None:
    state = begin(0.0, 1)
    first, state = decide(SPEC, state, Sample(0.02, 500, 468), 1)
    second, state = decide(SPEC, state, Sample(0.1, 0, 0), 2)
    assert (first.wanted, second.wanted) == (2, 2)


def test_a_short_queue_gets_no_more_instances_than_it_needs() -> None:
    function = Function(running=4)
    assert function.see(130, queued=2) == 6


def test_a_decision_limited_by_doubling_says_so() -> None:
    function = Function()
    function.see(500, 0.02, queued=468, every=0.02)
    assert (function.told.reason, function.told.bound) == ("requests queue", "at most 2 times the running instances")


def test_a_queue_adds_instances_also_when_scaling_by_requests_a_second() -> None:
    function = Function(scaled(metric=RPS, target=200.0))
    assert function.see(64, queued=32, begun=10) == 2


@pytest.mark.parametrize(("rate", "instances"), [(100, 1), (136, 1), (144, 2), (1000, 8)])
def test_requests_a_second_count_begun_requests(rate: int, instances: int) -> None:
    function = Function(scaled(metric=RPS, target=200.0))
    assert function.see(1, 70, begun=round(rate * EVERY)) == pytest.approx(instances, abs=0)


def test_cpu_is_the_sum_over_all_instances() -> None:
    function = Function(scaled(metric=CPU, target=500.0))
    assert function.see(1, 70, cpu=1500.0) == 5


def test_queued_requests_add_nothing_when_scaling_by_cpu() -> None:
    function = Function(scaled(metric=CPU, target=1000.0, utilisation=0.7))
    assert function.see(500, 70, queued=468, cpu=2000.0) == 3  # both processors of a machine are busy: ceil(2.86)


def test_the_bounds_apply_last_and_are_in_the_decision() -> None:
    function = Function(replace(SPEC, minimum=3, maximum=4))
    assert (function.see(1, 60), function.told.bound) == (3, "the minimum: 3")
    assert (function.see(900, 60), function.told.bound) == (4, "the maximum: 4")


def test_a_step_down_is_limited_by_the_rate() -> None:
    function = Function(scaled(stable_window=6.0, panic_window=0.6), running=20)
    seen = [function.see(0) for _ in range(60)]
    assert sorted(set(seen), reverse=True) == [20, 10, 5, 2, 1]


def test_a_step_up_is_limited_by_the_rate() -> None:
    function = Function(scaled(max_up_rate=1.5), running=4)
    assert function.see(400, every=1.0) == 6


def test_a_down_delay_keeps_instances_until_fewer_sufficed_for_that_long() -> None:
    function = Function(scaled(stable_window=6.0, panic_window=6.0, down_delay=30.0), running=1)
    function.see(40, 12)
    assert function.running == 2
    fell = function.now
    while function.see(1) == 2:
        pass
    assert 30 <= function.now - fell <= 37
    assert function.told.wanted == 1


def test_a_function_with_traffic_has_at_least_its_activation_scale() -> None:
    function = Function(scaled(activation=3))
    assert function.see(1) == 3
    assert Function(scaled(activation=3)).see(0, 61) == 1


def test_a_new_controller_removes_no_instance_within_its_first_stable_window() -> None:
    function = Function(running=6)
    assert function.see(1, 59.75) == 6
    assert [function.see(1) for _ in range(3)] == [3, 1, 1]


def test_samples_are_weighted_by_their_duration() -> None:
    state = ScalingState(0.0)
    for at, load in ((1.0, 10), (1.1, 100), (2.0, 10)):
        state = observe(SPEC.scaling, state, Sample(at, load, 0))
    assert average(SPEC.scaling, state, 60.0, 2.0) == pytest.approx((1.9 * 10 + 0.1 * 100) / 2.0)


def test_weighted_averages_favour_newer_samples() -> None:
    linear, weighted = Function(), Function(scaled(aggregation=WEIGHTED))
    for function in (linear, weighted):
        function.see(10, 30)
        function.see(20, 10)
    assert 10 < linear.told.stable < weighted.told.stable < 20


def test_a_long_gap_between_two_samples_does_not_count_as_load() -> None:
    state = observe(SPEC.scaling, ScalingState(0.0), Sample(1000.0, 50, 0, begun=1000))
    (bucket,) = state.buckets
    assert (bucket.seconds, bucket.load, bucket.begun) == (6.0, 300.0, 6.0)


loads = st.lists(
    st.tuples(st.integers(0, 3000), st.booleans(), st.floats(0.001, 30.0)), min_size=1, max_size=60
)  # fmt: skip
specs = st.builds(
    lambda metric, target, minimum, more, delay, window, aggregation: Spec(
        Scaling(metric=metric, target=target, down_delay=delay, stable_window=window, panic_window=window / 10,
                aggregation=aggregation),
        minimum, minimum + more, 32,
    ),
    st.sampled_from(["concurrency", RPS, CPU]), st.floats(0.1, 500.0), st.integers(1, 5), st.integers(0, 30),
    st.sampled_from([0.0, 10.0, 300.0]), st.sampled_from([6.0, 60.0, 600.0]), st.sampled_from(["linear", WEIGHTED]),
)  # fmt: skip


@given(specs, loads, st.integers(0, 30))
def test_the_number_is_always_within_its_bounds_and_the_state_stays_small(
    spec: Spec, seen: list[tuple[int, bool, float]], running: int
) -> None:
    state, now = begin(0.0, running), 0.0
    for load, queues, pause in seen:
        now += pause
        sample = Sample(now, load, load // 2 if queues else 0, load, float(load))
        decision, state = decide(spec, state, sample, running)
        assert spec.minimum <= decision.wanted <= spec.maximum
        assert decision.reason
        assert min(decision.stable, decision.panic) >= 0
        assert len(state.buckets) <= 62
        assert all(earlier[1] > later[1] for earlier, later in zip(state.wants, state.wants[1:], strict=False))
        running = decision.wanted


@given(specs, loads)
def test_no_instance_is_removed_while_requests_queue(spec: Spec, seen: list[tuple[int, bool, float]]) -> None:
    state, now, running = begin(0.0, 1), 0.0, 1
    for load, _, pause in seen:
        now += pause
        decision, state = decide(spec, state, Sample(now, load + 1, 1), running)
        assert decision.wanted >= min(running, spec.maximum)
        running = decision.wanted
