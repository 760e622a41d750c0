"""Explains why a function has its number of instances, and when it sleeps."""

from __future__ import annotations

from rescoldo.control.fleet.awake import Awake
from rescoldo.control.fleet.entry import Entry
from rescoldo.control.fleet.life import Life
from rescoldo.control.fleet.scaler import spec_of
from rescoldo.control.fleet.standings import wanted_of
from rescoldo.model.explanation import Explanation, Look, Step
from rescoldo.model.units import about, exactly
from rescoldo.policy.idle import due


def explain(entry: Entry, now: float) -> Explanation:
    """The explanation at `now`, in seconds on the loop's clock."""
    awake = entry.awake
    policy = entry.policy if awake is None else awake.policy
    spec = spec_of(policy, entry.requested)
    scaling = policy.scaling
    return Explanation(
        wanted=wanted_of(entry),
        running=len(awake.servers) if awake is not None else 0,
        starting=awake.starting if awake is not None else min(1, wanted_of(entry)),
        minimum=spec.minimum,
        maximum=spec.maximum,
        metric=scaling.metric,
        target=scaling.target,
        utilization=scaling.utilisation,
        windows=(scaling.stable_window, scaling.panic_window),
        look=_look(awake, now) if awake is not None else None,
        steps=tuple(Step(now - one.at, one.before, one.after, one.reason) for one in entry.changes),
        sleep=_sleep(entry, now) if awake is None else _until_sleep(entry, awake, now),
    )


def _look(awake: Awake, now: float) -> Look | None:
    scale = awake.scale
    if scale is None or (found := scale.decision) is None:
        return None
    return Look(
        ago=now - scale.looked_at,
        wanted=found.wanted,
        reason=found.reason,
        bound=found.bound,
        stable=found.stable,
        panic=found.panic,
        panicking=found.panicking,
        queued=found.queued,
    )


def _sleep(entry: Entry, now: float) -> str:
    if entry.standing.paused:
        return "paused: no call wakes it until it is resumed"
    if entry.trial is not None:
        return "not yet: its trial start is running"
    if entry.waking is not None:
        return "asleep; waking up"
    if entry.failure is not None:
        why = entry.failure.error.message.partition("\n")[0]
        pause = max(0.0, entry.failure.retry_at - now)
        return f"asleep; its start failed, and the next attempt is allowed in {about(pause)}: {why}"
    return f"asleep; the next call wakes it with {_instances(entry.wake_number)}"


def _until_sleep(entry: Entry, awake: Awake, now: float) -> str:
    if entry.floor:
        return f"never: it keeps at least {_instances(entry.kept)} awake"
    if entry.life is Life.CLOSING:
        return "now, unless it is called"
    window = entry.policy.idle_window
    if (awake.scale is not None and awake.scale.busy) or due(awake.activity, window) <= now:
        return f"{exactly(window)} after its last request ends"
    return f"in {about(due(awake.activity, window) - now)}, unless it is called"


def _instances(count: int) -> str:
    return "one instance" if count == 1 else f"{count} instances"
