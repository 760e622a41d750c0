"""What a call may leave behind at its deadline: child processes, and jobs in the loop's threads.

Cancelling an async handler ends neither: `await process.wait()` stops waiting, but the process runs on.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures.thread import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar

_TICKS = os.sysconf("SC_CLK_TCK")
_STARTED = 19  # index in /proc/PID/stat after the name in parentheses: start time, clock ticks since boot

P = ParamSpec("P")
T = TypeVar("T")


class Jobs(ThreadPoolExecutor):
    """The threads of `asyncio.to_thread` and `run_in_executor`; records when each job was submitted."""

    def __init__(self, most: int) -> None:
        super().__init__(most, "to-thread")
        self._begun: dict[Future[Any], float] = {}

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future = super().submit(fn, *args, **kwargs)
        self._begun[future] = time.perf_counter()
        future.add_done_callback(self._begun.pop)
        return future

    def has_any_since(self, began: float) -> bool:
        """Whether a job submitted at `began` (time.perf_counter) or later still runs."""
        return any(begun >= began for begun in list(self._begun.values()))


def has_children_since(began: float) -> bool:
    """Whether a child process started at `began` (time.perf_counter) or later still runs. A child whose
    start time is unreadable, as at the level unprivileged, counts."""
    since_boot = time.clock_gettime(time.CLOCK_BOOTTIME) - (time.perf_counter() - began)
    ticks = int(since_boot * _TICKS)
    return any(started is None or started >= ticks for _, started in _children())


def kill_children() -> None:
    """SIGKILL every child process, including those in sessions of their own."""
    for pid, _ in _children():
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def _children() -> Iterator[tuple[int, int | None]]:
    """Yield each running child process with its start time in clock ticks since boot; None if unreadable."""
    with suppress(OSError):  # a kernel without this file
        for thread in os.listdir("/proc/self/task"):  # noqa: PTH208 - pathlib costs a fresh fork page faults
            for pid in _read(f"/proc/self/task/{thread}/children").split():
                fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
                if not fields:
                    yield int(pid), None
                elif fields[0] not in "ZX":
                    yield int(pid), int(fields[_STARTED])


def _read(path: str) -> str:
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            return file.read().decode(errors="replace")
    except OSError:
        return ""
