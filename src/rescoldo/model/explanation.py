"""The reasons for a function's number of instances, which `rescoldo describe --why` shows."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Look:
    """The scaler's last decision."""

    ago: float  # seconds
    wanted: int  # instances
    reason: str
    bound: str  # the limit that changed the number; empty: none did
    stable: float  # average of the metric over the stable window
    panic: float  # the same over the panic window
    panicking: bool
    queued: int  # requests


@dataclass(frozen=True, slots=True)
class Step:
    """One change of the number of instances."""

    ago: float  # seconds
    before: int
    after: int
    reason: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """The scaling settings of a function, and the reasons for its number of instances now."""

    wanted: int  # instances; 0: it sleeps
    running: int  # instances that take requests
    starting: int  # instances
    minimum: int  # instances while it is awake
    maximum: int  # instances
    metric: str  # concurrency, rps or cpu
    target: float  # for each instance: requests at once, requests a second, or millicores
    utilization: float  # share of the target that is used before another instance starts
    windows: tuple[float, float]  # stable and panic, seconds
    look: Look | None  # None: the scaler has had no reason to look yet
    steps: tuple[Step, ...]  # recent changes, oldest first
    sleep: str  # why and when it falls asleep, or what wakes it
