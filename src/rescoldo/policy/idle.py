"""When an awake function may sleep: idle means no request in flight, none queued, and none begun."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Activity:
    """What is known of an awake function's traffic."""

    last_active: float  # seconds on the loop's clock: the last wake, call or busy sample
    total: int  # requests its slot had begun at the last sample


@dataclass(frozen=True, slots=True)
class Sample:
    """A slot's counters as read from the edge."""

    busy: bool  # a request is in flight or queued
    total: int  # requests begun


def due(activity: Activity, window: float) -> float:
    """When the function may first sleep, if nothing happens until then."""
    return activity.last_active + window


def observe(activity: Activity, sample: Sample, now: float) -> Activity:
    """Take a sample in. A call too short to be caught in flight shows in `total`."""
    if sample.busy or sample.total != activity.total:
        return Activity(now, sample.total)
    return activity
