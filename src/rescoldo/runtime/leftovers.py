"""What a call leaves behind that is ended at its deadline: child processes, and jobs in the loop's own threads.

Cancelling an async handler ends neither: `await process.wait()` stops waiting and the process runs on.
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
_STARTED = 19  # field of /proc/PID/stat after the name in parentheses: clock ticks since boot

P = ParamSpec("P")
T = TypeVar("T")


class Jobs(ThreadPoolExecutor):
    """The threads of `asyncio.to_thread` and `run_in_executor`, with the time at which each of their jobs came."""

    def __init__(self, most: int) -> None:
        super().__init__(most, "to-thread")
        self._begun: dict[Future[Any], float] = {}

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future = super().submit(fn, *args, **kwargs)
        self._begun[future] = time.perf_counter()
        future.add_done_callback(self._begun.pop)
        return future

    def has_any_since(self, began: float) -> bool:
        """Whether a job that came at `began` (time.perf_counter) or later has not ended."""
        return any(begun >= began for begun in list(self._begun.values()))


def has_children_since(began: float) -> bool:
    """Whether a child process that was started at `began` (time.perf_counter) or later runs. One whose start cannot
    be read, as at the level unprivileged, counts as such."""
    since_boot = time.clock_gettime(time.CLOCK_BOOTTIME) - (time.perf_counter() - began)
    ticks = int(since_boot * _TICKS)
    return any(started is None or started >= ticks for _, started in _children())


def kill_children() -> None:
    """SIGKILL every child process, those too that made a session of their own."""
    for pid, _ in _children():
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def _children() -> Iterator[tuple[int, int | None]]:
    """Every child process that runs, and when it was started in clock ticks since boot, if that can be read."""
    with suppress(OSError):  # a kernel that does not tell
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
