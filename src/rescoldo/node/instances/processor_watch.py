"""Gives instances that crowd a container's processors the lowest priority, where no cgroup limits them.

Every thread has an equal share otherwise, so that a function with 32 of them leaves a start of another one a 16th of a
processor. A process of the policy SCHED_IDLE runs when nobody else wants to, and makes way at once. Without rights the
kernel allows no way back: an instance keeps it until its end.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from rescoldo.node.processes.processes import make_way, read_stat
from rescoldo.policy.processors import WORTH, crowds

LOOK_SECONDS = 1.0  # between two looks; with 300 processes one takes 8 ms
_RUNNABLE = b"R"  # the state of a thread that runs or wants to

_LOG = logging.getLogger(__name__)


class ProcessorWatch:
    """Compares what instances have used at one look with the one before."""

    def __init__(self, cpus: float) -> None:
        self._cpus = cpus
        self._seconds: dict[int, float] = {}  # processor time by pid, at the last look
        self._looked_at: float | None = None
        self._low: set[int] = set()  # pids of instances' main processes

    def look(self, now: float, processes: Mapping[int, Iterable[int]]) -> None:
        """Look at the instances with these `processes` by main process, unless that was done a moment ago. `now` in
        seconds."""
        if self._looked_at is not None and now < self._looked_at + LOOK_SECONDS:
            return
        before, self._seconds = self._seconds, {}
        used = {leader: self._measure(pids, before) for leader, pids in processes.items()}
        elapsed, self._looked_at = now - (self._looked_at or now), now
        if not elapsed:  # the first look: nothing to compare with
            return
        self._low &= processes.keys()
        for leader in used.keys() - self._low:
            share = used[leader] / elapsed
            if share >= WORTH and crowds(share, runnable := _count_runnable(processes[leader]), self._cpus):
                _LOG.warning("process %d: %d threads want %g cpus: lowest priority", leader, runnable, self._cpus)
                self._low.add(leader)
        for leader in self._low:
            for thread in (found for pid in processes[leader] for found in _threads(pid)):
                make_way(thread)

    def _measure(self, pids: Iterable[int], before: Mapping[int, float]) -> float:
        """Seconds of processor time since the last look."""
        used = 0.0
        for pid in pids:
            if (stat := read_stat(pid)) is not None:
                self._seconds[pid] = stat.cpu_seconds
                used += max(0.0, stat.cpu_seconds - before.get(pid, 0.0))
        return used


def _count_runnable(pids: Iterable[int]) -> int:
    """How many threads of these processes run or want to, at this moment."""
    count = 0
    for pid in pids:
        for thread in _threads(pid):
            with contextlib.suppress(OSError):
                text = Path(f"/proc/{pid}/task/{thread}/stat").read_bytes()
                count += text.rpartition(b") ")[2][:1] == _RUNNABLE
    return count


def _threads(pid: int) -> Iterator[int]:
    with contextlib.suppress(OSError):
        yield from map(int, os.listdir(f"/proc/{pid}/task"))  # noqa: PTH208 - speed
