"""Runs functions that misbehave, and measures their effect on other functions and on the platform."""

from __future__ import annotations

import os
import statistics
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from matrix.background import Calling
from matrix.client import Call
from matrix.load import OTHERS
from matrix.world import World
from support.live import pss

PLATFORM = ("guardian", "supervisor", "edge", "controller", "node")
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Seen:
    """Calls of one kind to well-behaved functions; times in seconds."""

    calls: int
    failed: int
    median: float
    p99: float
    longest: float


@dataclass(frozen=True)
class NeighbourResult:
    """The effect of a misbehaving function on others and on the platform."""

    fault: str
    answered: str  # the responses to its own callers
    warm: Seen
    cold: Seen
    cores: float  # processor cores that the platform used
    memory: int  # bytes by which the platform grew
    wanted_spares: int  # at the end


def others(world: World) -> Calling:
    """Make warm calls and wakes of well-behaved functions while the context is entered."""
    return Calling(world, lambda load: load.start(OTHERS))


class Meter:
    """Measures what the platform uses, except for zygotes and instances."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._begin = time.monotonic()
        self._cpu = self._cpu_seconds()
        self._memory = self._bytes()

    @property
    def seconds(self) -> float:
        """Seconds since its creation."""
        return time.monotonic() - self._begin

    @property
    def grown(self) -> int:
        """Bytes by which the platform's processes have grown since then."""
        return self._bytes() - self._memory

    def result(self, fault: str, answered: str, calling: Calling) -> NeighbourResult:
        cores = (self._cpu_seconds() - self._cpu) / self.seconds
        calls = [call for call in calling.load.calls if call.end]
        warm = seen([call for call in calls if call.kind == "warm"])
        cold = seen([call for call in calls if call.kind == "cold"])
        return NeighbourResult(fault, answered, warm, cold, round(cores, 2), self.grown, spares(self._world)[1])

    def _cpu_seconds(self) -> float:
        stats = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in self._pids()]
        return sum(int(stat[11]) + int(stat[12]) for stat in stats) / TICKS

    def _bytes(self) -> int:
        return sum(pss(pid) for pid in self._pids())

    def _pids(self) -> list[int]:
        return [self._world.live.pid(name) for name in PLATFORM]


def seen(calls: list[Call]) -> Seen:
    """Summarize calls of one kind."""
    times = sorted(call.end - call.begin for call in calls)
    figures = (statistics.median(times), times[len(times) * 99 // 100], times[-1])
    return Seen(len(calls), sum(call.failed for call in calls), *(round(figure, 4) for figure in figures))


def spares(world: World) -> tuple[int, int]:
    """Return the numbers of ready and of wanted spares."""
    with urllib.request.urlopen(f"http://{world.live.settings.metrics}/metrics") as answer:
        lines = [line.split() for line in answer.read().decode().splitlines() if line.startswith("rescoldo_spares_")]
    values = {name: int(float(value)) for name, value in lines}
    return values["rescoldo_spares_ready"], values["rescoldo_spares_wanted"]
