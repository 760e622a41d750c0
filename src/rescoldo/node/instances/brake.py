"""Stops all instances for some milliseconds while the container is short of memory.

A process that was killed frees its memory only when it gets a processor: 200 MiB take some 20 ms. Those that grow
would meanwhile use up the reserve. A stopped process grows by nothing, so the reserve has only to be as large as what
grows before the stop (`policy.memory.reserve`).
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable

from rescoldo.node.processes.processes import Watched, signal_group

LONGEST_HOLD = 0.5  # seconds; what is killed ends within 50 ms, and nothing may stop the others for long
_PAUSE_BETWEEN = 0.1  # seconds that instances run at least after a stop, so that they get somewhere when memory is full


class Brake:
    """Holds the processes of instances by SIGSTOP, and lets them go on."""

    def __init__(self) -> None:
        self._held: dict[int, Watched | None] = {}  # by pid; None: a child of an instance's process
        self._since = 0.0
        self._not_before = 0.0

    @property
    def holds(self) -> bool:
        """Whether instances are stopped."""
        return bool(self._held)

    def hold(self, leaders: Iterable[Watched], now: float) -> None:
        """Stop the process groups of these main processes that run, unless the last stop ended just before `now`
        (seconds)."""
        if now < self._not_before:
            return
        if not self._held:
            self._since = now
        for process in leaders:
            if process.pid not in self._held:
                signal_group(process.pid, signal.SIGSTOP)
                process.signal(signal.SIGSTOP)
                self._held[process.pid] = process

    def hold_children(self, pids: Iterable[int]) -> None:
        """Stop further processes of the instances that are held: children with groups of their own."""
        if self._held:
            for pid in pids:
                if pid not in self._held:
                    self._held[pid] = None
                    _signal(pid, signal.SIGSTOP)

    def is_overdue(self, now: float) -> bool:
        """Whether the stop has lasted for LONGEST_HOLD at `now`."""
        return bool(self._held) and now >= self._since + LONGEST_HOLD

    def release(self, now: float) -> None:
        """Let everything go on. Nothing happens if nothing is held."""
        held, self._held = self._held, {}
        if held:
            self._not_before = now + _PAUSE_BETWEEN if now >= self._since + LONGEST_HOLD else now
        for pid, process in held.items():
            if process is None:
                _signal(pid, signal.SIGCONT)
            else:
                signal_group(pid, signal.SIGCONT)
                process.signal(signal.SIGCONT)


def stop(pids: Iterable[int]) -> None:
    """Stop processes until `go_on`."""
    for pid in pids:
        _signal(pid, signal.SIGSTOP)


def go_on(pids: Iterable[int]) -> None:
    """Let processes go on that another brake may have stopped."""
    for pid in pids:
        _signal(pid, signal.SIGCONT)


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)
