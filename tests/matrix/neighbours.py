"""Functions that misbehave, and what those of others see of it."""

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
    """Calls of one kind, of functions that do no problems; times in seconds."""

    calls: int
    failed: int
    median: float
    p99: float
    longest: float


@dataclass(frozen=True)
class NeighbourResult:
    """What a function that misbehaves does to others and to the platform."""

    fault: str
    answered: str  # what its own callers get
    warm: Seen
    cold: Seen
    cores: float  # of processor that the platform used
    memory: int  # bytes by which the platform grew
    spares: int  # that it kept in the end


def others(world: World) -> Calling:
    """Warm calls and wakes of functions that do no problems, while the context is entered."""
    return Calling(world, lambda load: load.start(OTHERS))


class Meter:
    """What the platform uses, zygotes and instances aside."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._begin = time.monotonic()
        self._cpu = self._cpu_seconds()
        self._memory = self._bytes()

    @property
    def seconds(self) -> float:
        """Since it was made."""
        return time.monotonic() - self._begin

    @property
    def grown(self) -> int:
        """Bytes by which its processes have grown since then."""
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
    """How calls of one kind went."""
    times = sorted(call.end - call.begin for call in calls)
    figures = (statistics.median(times), times[len(times) * 99 // 100], times[-1])
    return Seen(len(calls), sum(call.failed for call in calls), *(round(figure, 4) for figure in figures))


def spares(world: World) -> tuple[int, int]:
    """Spares there are, and as many as are wanted."""
    with urllib.request.urlopen(f"http://{world.live.settings.metrics}/metrics") as answer:
        lines = [line.split() for line in answer.read().decode().splitlines() if line.startswith("rescoldo_spares_")]
    values = {name: int(float(value)) for name, value in lines}
    return values["rescoldo_spares_ready"], values["rescoldo_spares_wanted"]
