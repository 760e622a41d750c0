"""Decides how many instances an awake function should have: Knative's KPA as a pure step, with one added rule.

    wanted = ceil(average / aim)        100 requests at once, 32 x 70 % = 22.4 each: ceil(4.46) = 5

The average covers the stable window (60 s); in a panic, the panic window (6 s) counts if it asks for more. A panic
begins when the short average asks for twice the running instances. It lasts until that has not been so for a stable
window, and nothing is scaled down before.

Our own rule: queued requests raise an alarm, which no average hides. Two limits keep it from overshooting:
- An alarm at most doubles the running instances: when many calls are held for one wake, the queue may be gone in a
  moment.
- An alarm lasts one panic window, in which the averages show whether it was needed: when the machine stalls for a
  moment, the requests of every function queue.
A function that scales by cpu raises no alarm: on a busy machine, more instances would share the same processors.

This policy never decides on zero: the idle window puts a function to sleep (policy/idle.py).

Sources: https://knative.dev/docs/serving/autoscaling/kpa-specific, and for the order of its steps
https://github.com/knative/serving/blob/main/docs/scaling/SYSTEM.md and the code beside it (pkg/autoscaler/scaling).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from rescoldo.model.scaling import CONCURRENCY, CPU, RPS, WEIGHTED, Scaling

UNITS = {CONCURRENCY: "requests at once", RPS: "requests a second", CPU: "millicores"}
BUCKETS_PER_PANIC = 6  # buckets in a panic window: 1 s each by default, as Knative's are
SHORTEST_BUCKET = 0.25  # seconds
SETTLED = 1.0  # seconds of samples that make an average
BURST = 2  # times the running instances: the most that a queue asks for at once
WEIGHT_AT_END = 0.01  # weight of a window's oldest sample in a weighted average; the newest has 1


@dataclass(frozen=True, slots=True)
class Spec:
    """The bounds and settings by which one function scales."""

    scaling: Scaling
    minimum: int  # instances, at least 1
    maximum: int
    limit: int  # requests that one instance takes at once


@dataclass(frozen=True, slots=True)
class Sample:
    """A function's load at one moment, and its traffic since the previous sample."""

    at: float  # seconds, on any clock that does not go back
    load: int  # requests in flight and queued
    queued: int  # requests
    begun: float = 0.0  # requests since the previous sample
    cpu: float = 0.0  # millicores of all instances since the previous sample


@dataclass(frozen=True, slots=True)
class Bucket:
    """The sum of the samples of one short period."""

    begin: float  # seconds on the samples' clock
    seconds: float  # time that the samples cover
    load: float  # requests x seconds
    begun: float  # requests
    cpu: float  # millicores x seconds

    def add(self, seconds: float, sample: Sample) -> Bucket:
        """Return this bucket with a sample that stands for `seconds`."""
        return Bucket(
            self.begin,
            self.seconds + seconds,
            self.load + sample.load * seconds,
            self.begun + sample.begun,
            self.cpu + sample.cpu * seconds,
        )

    def sum(self, metric: str) -> float:
        """Return the sum of `metric`, multiplied by seconds."""
        return self.load if metric == CONCURRENCY else self.cpu if metric == CPU else self.begun


@dataclass(frozen=True, slots=True)
class ScalingState:
    """The memory between two decisions."""

    since: float  # when the last sample was taken, or the state began
    buckets: tuple[Bucket, ...] = ()  # oldest first
    panic_at: float | None = None  # when there was last a reason for panic; None: no panic
    peak: int = 0  # highest number wanted in this panic
    alarm_at: float = -math.inf  # when requests last queued
    alarm: int = 0  # highest number that an alarm asked for, in a row of alarms
    wants: tuple[tuple[float, int], ...] = ()  # (when, number) within the scale-down delay; the numbers fall


@dataclass(frozen=True, slots=True)
class Decision:
    """The wanted number of instances, and the figures behind it."""

    wanted: int  # instances
    reason: str
    stable: float  # average of the metric over the stable window
    panic: float  # the same over the panic window
    panicking: bool
    bound: str = ""  # the limit that changed the number; empty: none did
    queued: int = 0  # requests


def begin(now: float, running: int) -> ScalingState:
    """Return the state of a function without samples.

    A function with several instances begins in a panic: so a new controller stops none of them before it has seen a
    stable window.
    """
    return ScalingState(now, panic_at=now, peak=running) if running > 1 else ScalingState(now)


def observe(scaling: Scaling, state: ScalingState, sample: Sample) -> ScalingState:
    """Return the state after a sample, which stands for the time since the previous one, at most a panic window."""
    passed = max(0.0, sample.at - state.since)
    seconds = min(passed, scaling.panic_window)
    if seconds < passed:  # the counted part of a longer gap gets its share of the requests
        sample = replace(sample, begun=sample.begun * seconds / passed)
    width = max(SHORTEST_BUCKET, scaling.panic_window / BUCKETS_PER_PANIC)
    buckets = state.buckets
    if buckets and sample.at < buckets[-1].begin + width:
        buckets = (*buckets[:-1], buckets[-1].add(seconds, sample))
    else:
        oldest = sample.at - scaling.stable_window
        kept = tuple(bucket for bucket in buckets if bucket.begin > oldest)
        buckets = (*kept, Bucket(sample.at, 0.0, 0.0, 0.0, 0.0).add(seconds, sample))
    return replace(state, since=max(state.since, sample.at), buckets=buckets)


def average(scaling: Scaling, state: ScalingState, window: float, now: float) -> float:
    """Return the average of the metric over the last `window` seconds, or since the first sample; 0 without samples.

    Samples that cover less than SETTLED seconds count in proportion: 500 calls that were held for one wake and are gone
    after 0.1 s count as 50.
    """
    total = weights = seconds = 0.0
    for bucket in state.buckets:
        age = now - bucket.begin
        if age < window:
            weight = WEIGHT_AT_END ** (max(0.0, age) / window) if scaling.aggregation == WEIGHTED else 1.0
            total += bucket.sum(scaling.metric) * weight
            weights += bucket.seconds * weight
            seconds += bucket.seconds
    return total / weights * min(1.0, seconds / SETTLED) if weights else 0.0


def decide(spec: Spec, state: ScalingState, sample: Sample, running: int) -> tuple[Decision, ScalingState]:
    """Return the decision and the state after a sample; `running` is the number of instances that take requests."""
    scaling, now = spec.scaling, sample.at
    state = observe(scaling, state, sample)
    ready = max(1, running)
    stable = average(scaling, state, scaling.stable_window, now)
    panic = average(scaling, state, scaling.panic_window, now)
    # both averages may ask for at most this many instances, and at least for this many, in one decision
    most, least = math.ceil(ready * scaling.max_up_rate), math.floor(ready / scaling.max_down_rate)
    by_stable = min(most, max(least, math.ceil(stable / scaling.aim)))
    by_panic = min(most, max(least, math.ceil(panic / scaling.aim)))
    if scaling.activation > 1 and stable > 0:
        by_stable, by_panic = max(by_stable, scaling.activation), max(by_panic, scaling.activation)
    burst = _burst(spec, sample, ready)
    state = _panic(scaling, state, now, by_panic / ready >= scaling.panic_threshold)
    state = _alarm(scaling, state, now, burst)
    wanted, reason = by_stable, f"{stable:.1f} {UNITS[scaling.metric]} on average over {scaling.stable_window:g} s"
    if state.panic_at is not None:
        wanted, reason, state = _in_panic(state, {"stable": by_stable, "panic": by_panic})
    if state.alarm > wanted:
        wanted, reason = state.alarm, "requests queue"
        if not burst:
            reason = f"requests queued within the last {scaling.panic_window:g} s"
    wanted, reason, state = _delayed(scaling, state, now, wanted, reason)
    wanted, bound = _bounded(spec, wanted, doubled=wanted == burst == ready * BURST)
    return Decision(wanted, reason, stable, panic, state.panic_at is not None, bound, sample.queued), state


def _burst(spec: Spec, sample: Sample, ready: int) -> int:
    """Return the instances that would empty the queue, at least `ready`; 0 without a queue or with the metric cpu."""
    if not sample.queued or spec.scaling.metric == CPU:
        return 0
    each = min(spec.scaling.target, spec.limit) if spec.scaling.metric == CONCURRENCY else spec.limit
    return max(ready, min(ready * BURST, math.ceil(sample.load / (each * spec.scaling.utilisation))))


def _panic(scaling: Scaling, state: ScalingState, now: float, cause: bool) -> ScalingState:
    if cause:
        return replace(state, panic_at=now)
    if state.panic_at is not None and now - state.panic_at >= scaling.stable_window:
        return replace(state, panic_at=None, peak=0)
    return state


def _alarm(scaling: Scaling, state: ScalingState, now: float, burst: int) -> ScalingState:
    over = now - state.alarm_at >= scaling.panic_window
    if burst:
        return replace(state, alarm_at=now, alarm=burst if over else max(burst, state.alarm))
    return replace(state, alarm=0) if over else state


def _in_panic(state: ScalingState, asked: dict[str, int]) -> tuple[int, str, ScalingState]:
    cause = max(asked, key=lambda name: asked[name])
    if asked[cause] < state.peak:
        return state.peak, "panic mode: no scale-down until a stable window has passed", state
    return asked[cause], f"panic mode: the average of the {cause} window", replace(state, peak=asked[cause])


def _delayed(
    scaling: Scaling, state: ScalingState, now: float, wanted: int, reason: str
) -> tuple[int, str, ScalingState]:
    """Return the highest number wanted within the scale-down delay.

    The state keeps only numbers above every later one, so the first is the highest.
    """
    if not scaling.down_delay:
        return wanted, reason, state
    kept = [(at, number) for at, number in state.wants if at > now - scaling.down_delay and number > wanted]
    kept.append((now, wanted))
    most = kept[0][1]
    if most > wanted:
        reason = f"scale-down delay: {most} were wanted within the last {scaling.down_delay:g} s"
    return most, reason, replace(state, wants=tuple(kept))


def _bounded(spec: Spec, wanted: int, *, doubled: bool) -> tuple[int, str]:
    if wanted > spec.maximum:
        return spec.maximum, f"the maximum: {spec.maximum}"
    if wanted < spec.minimum:
        return spec.minimum, f"the minimum: {spec.minimum}"
    return wanted, f"at most {BURST} times the running instances" if doubled else ""
