"""Ends processes that a third party has stopped (SIGSTOP): for its callers a stopped process is worse than a dead
one."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from rescoldo.node.processes.processes import Watched, read_stat

LOOK_SECONDS = 1.0
PATIENCE = 2.0  # seconds that a process may stay stopped
MOST_LOOKS = 200  # processes looked at in one poll, about 5 ms; with more, each gets its turn less often
_STOPPED = "T"  # stopped by a signal; a debugged process is "t"

T = TypeVar("T")
_LOG = logging.getLogger(__name__)


async def end_stopped(processes: Callable[[], Sequence[Watched]]) -> None:
    """Kill each process that stays stopped for PATIENCE seconds, until cancelled. It is then replaced as if it had
    died."""
    since: dict[Watched, float] = {}  # seconds on the monotonic clock
    turn = 0
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        now = time.monotonic()
        all_of_them = processes()
        since = {process: begin for process, begin in since.items() if process in all_of_them}
        for process in due(all_of_them, turn):
            stat = read_stat(process.pid)
            if stat is None or stat.state != _STOPPED:
                since.pop(process, None)
            elif now - since.setdefault(process, now) >= PATIENCE:
                _LOG.warning("process %d was stopped (SIGSTOP) for %g s; killing it", process.pid, PATIENCE)
                process.kill()
        turn += MOST_LOOKS


def due(processes: Sequence[T], turn: int) -> Sequence[T]:
    """The next MOST_LOOKS of all processes. Of 500: 0 to 199, 200 to 399, 400 to 499 and 0 to 99, …"""
    if len(processes) <= MOST_LOOKS:
        return processes
    first = turn % len(processes)
    return [*processes[first:], *processes[:first]][:MOST_LOOKS]
