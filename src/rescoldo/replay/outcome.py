"""The figures of a trace under one setting, the same for a simulation and a live replay."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from rescoldo.model.function import DEFAULT_IDLE_WINDOW
from rescoldo.model.limits import Limits
from rescoldo.model.scaling import DEFAULT_MAXIMUM
from rescoldo.replay.trace import SECONDS, Trace

MAX_FAILURES = 20
MB_PER_GB = 1024.0  # the trace's MB are 2**20 bytes


@dataclass(frozen=True, slots=True)
class Setting:
    """The values that a replay compares."""

    window: float = DEFAULT_IDLE_WINDOW  # seconds that a function idles before it sleeps
    concurrency: int = Limits().concurrency  # requests in flight in one instance
    most: int = DEFAULT_MAXIMUM  # instances

    def __str__(self) -> str:
        window = f"{self.window / 60:g}m" if self.window >= 60 else f"{self.window:g}s"
        concurrency = "" if self.concurrency == Limits().concurrency else f", {self.concurrency} at once"
        most = "" if self.most == DEFAULT_MAXIMUM else f", at most {self.most}"
        return window + concurrency + most


@dataclass(slots=True)
class Delays:
    """The times that calls waited beyond their own run. Most calls did not wait: `none` counts those."""

    none: int = 0
    some: array[float] = field(default_factory=lambda: array("d"))  # seconds

    @property
    def mean(self) -> float:
        """Seconds, over all calls."""
        count = self.none + len(self.some)
        return sum(self.some) / count if count else 0.0

    def at(self, *percentiles: float) -> list[float]:
        """The given percentiles in seconds, by nearest rank."""
        ordered = sorted(self.some)
        count = self.none + len(ordered)
        found = []
        for percentile in percentiles:
            place = max(0, -int(-count * percentile // 100) - 1) - self.none  # nearest rank
            found.append(ordered[place] if place >= 0 and ordered else 0.0)
        return found


@dataclass(frozen=True, slots=True)
class Outcome:
    """Figures of one setting. Memory is MB, averaged over each minute of the trace."""

    setting: Setting
    trace: Trace
    warm: tuple[float, ...]  # held by instances
    used: tuple[float, ...]  # held by instances with a call in flight; empty when not measured
    calls: int
    cold: int  # calls held for a wake
    failures: Counter[str]  # by cause
    delays: Delays
    late: Delays | None = None  # how late a live replay sent its calls

    @property
    def failed(self) -> int:
        """The number of failed calls."""
        return self.failures.total()

    @property
    def warm_share(self) -> float:
        """Warm memory in per cent of always-on."""
        memory = self.trace.memory
        return 100 * sum(self.warm) / len(self.warm) / memory if memory else 0.0

    @property
    def used_share(self) -> float:
        """Memory of instances with a call in flight, in per cent of always-on."""
        memory = self.trace.memory
        return 100 * sum(self.used) / len(self.used) / memory if memory else 0.0

    @property
    def cold_share(self) -> float:
        """Cold calls in per cent of all calls."""
        return 100 * self.cold / self.calls if self.calls else 0.0

    @property
    def gb_seconds(self) -> float:
        """Warm memory times its duration, in GB (2**30 bytes) times seconds."""
        return sum(self.warm) * SECONDS / MB_PER_GB

    def to_json(self) -> dict[str, Any]:
        """The figures for scripts; the names give the units: seconds, GB (2**30 bytes), per cent."""
        p50, p99, most = self.delays.at(50, 99, 100)
        data = {
            "window_seconds": self.setting.window,
            "concurrency": self.setting.concurrency,
            "max_scale": self.setting.most,
            "warm_percent_of_always_on": round(self.warm_share, 3),
            "warm_gb_seconds": round(self.gb_seconds, 1),
            "always_on_gb_seconds": round(self.trace.memory * self.trace.seconds / MB_PER_GB, 1),
            "calls": self.calls,
            "cold_calls": self.cold,
            "cold_percent_of_calls": round(self.cold_share, 4),
            "added_seconds": {"mean": self.delays.mean, "p50": p50, "p99": p99, "max": most},
            "failed_calls": self.failed,
            "failures": dict(self.failures),
            "warm_gb_by_minute": [round(mb / MB_PER_GB, 4) for mb in self.warm],
            "used_gb_by_minute": [round(mb / MB_PER_GB, 4) for mb in self.used],
        }
        if self.late is not None:
            p50, p99, most = self.late.at(50, 99, 100)
            data["sent_late_seconds"] = {"mean": self.late.mean, "p50": p50, "p99": p99, "max": most}
        return data


class CostCounter:
    """Counts the cost of a setting while a replay runs."""

    def __init__(self, minutes: int) -> None:
        self.warm = [0.0] * minutes  # MB x seconds in each minute
        self.used = [0.0] * minutes
        self.calls = 0
        self.cold = 0
        self.failures: Counter[str] = Counter()
        self.delays = Delays()

    def add(self, series: list[float], begin: float, end: float, memory: float) -> None:
        """Add `memory` MB from `begin` to `end` (seconds) to `series`, cut at the end of the trace."""
        end = min(end, len(series) * SECONDS)
        while begin < end:
            minute = int(begin / SECONDS)
            until = min(end, (minute + 1) * SECONDS)
            series[minute] += (until - begin) * memory
            begin = until

    def fail(self, why: str) -> None:
        """Count a failed call by its cause; at most MAX_FAILURES causes are distinguished."""
        known = why in self.failures or len(self.failures) < MAX_FAILURES
        self.failures[why if known else "others"] += 1

    def outcome(self, trace: Trace, setting: Setting, late: Delays | None = None) -> Outcome:
        """The figures, at the end of the replay."""
        return Outcome(
            setting=setting,
            trace=trace,
            warm=tuple(total / SECONDS for total in self.warm),
            used=tuple(total / SECONDS for total in self.used),
            calls=self.calls,
            cold=self.cold,
            failures=self.failures,
            delays=self.delays,
            late=late,
        )
