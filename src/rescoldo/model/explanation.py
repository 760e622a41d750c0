"""Why a function has as many instances as it has: what `rescoldo describe --why` shows."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Look:
    """The scaler's last decision."""

    ago: float  # seconds
    wanted: int  # instances
    reason: str
    bound: str  # what kept the number from being what the averages ask for; empty: nothing
    stable: float  # average of the metric over the stable window
    panic: float  # and over the panic window
    panicking: bool
    queued: int  # requests


@dataclass(frozen=True, slots=True)
class Step:
    """The number of instances was changed."""

    ago: float  # seconds
    before: int
    after: int
    reason: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """How a function is scaled, and why it is as it is now."""

    wanted: int  # instances; 0: it sleeps
    running: int  # that take requests
    starting: int
    minimum: int  # while it is awake
    maximum: int
    metric: str  # concurrency, rps or cpu
    target: float  # of an instance: requests at once, requests a second, or millicores
    utilization: float  # share of the target that is used
    windows: tuple[float, float]  # stable and panic, seconds
    look: Look | None  # None: the scaler has had no reason to look yet
    steps: tuple[Step, ...]  # the last few changes, oldest first
    sleep: str  # what puts it to sleep and when, or what wakes it
