"""Decides when an awake function may sleep.

A function is idle while no request is in flight or queued, and none has begun since the last sample.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Activity:
    """The last known traffic of an awake function."""

    last_active: float  # seconds on the loop's clock: the last wake, call or busy sample
    total: int  # requests its slot had begun at the last sample


@dataclass(frozen=True, slots=True)
class LoadSample:
    """A slot's counters as read from the edge."""

    busy: bool  # a request is in flight or queued
    total: int  # requests begun


def due(activity: Activity, window: float) -> float:
    """Return the earliest time at which the function may sleep if it stays idle; `window` is in seconds."""
    return activity.last_active + window


def observe(activity: Activity, sample: LoadSample, now: float) -> Activity:
    """Return the activity after a sample. A call too short for any sample to see in flight still raises `total`."""
    if sample.busy or sample.total != activity.total:
        return Activity(now, sample.total)
    return activity
