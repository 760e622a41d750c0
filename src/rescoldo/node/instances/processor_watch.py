"""Gives instances that use up a container's processors the lowest priority, where no cgroup limits them.

Every thread has an equal share otherwise, so that a function with 32 of them leaves a start of another one a 16th of a
processor. A process of the policy SCHED_IDLE runs when nobody else wants to, and makes way at once. Without rights the
kernel allows no way back: an instance keeps it until its end.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable, Mapping

from rescoldo.node.processes.processes import read_stat
from rescoldo.policy.processors import greedy

LOOK_SECONDS = 1.0  # between two looks; with 300 processes one takes 8 ms

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
        used: dict[int, float] = {}
        for leader, pids in processes.items():
            for pid in pids:
                if (stat := read_stat(pid)) is not None:
                    self._seconds[pid] = stat.cpu_seconds
                    used[leader] = used.get(leader, 0.0) + max(0.0, stat.cpu_seconds - before.get(pid, 0.0))
        elapsed, self._looked_at = now - (self._looked_at or now), now
        if not elapsed:  # the first look: nothing to compare with
            return
        self._low &= processes.keys()
        low = sum(used.pop(leader, 0.0) for leader in self._low)
        shares = {leader: seconds / elapsed for leader, seconds in used.items()}
        for leader in greedy(shares, low / elapsed, self._cpus):
            _LOG.info("process %d uses %.1f of %g cpus: lowest priority", leader, shares[leader], self._cpus)
            self._low.add(leader)
        for leader in self._low:
            for pid in processes[leader]:
                _make_way(pid)


def _make_way(pid: int) -> None:
    """Have all threads of a process run only when no other one wants to."""
    with contextlib.suppress(OSError):
        for thread in map(int, os.listdir(f"/proc/{pid}/task")):  # noqa: PTH208 - speed
            if os.sched_getscheduler(thread) != os.SCHED_IDLE:
                os.sched_setscheduler(thread, os.SCHED_IDLE, os.sched_param(0))
