"""Tasks: background ones that never end unseen, and waiting in one without losing its cancellation.

All layers may use this.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine
from typing import Any

log = logging.getLogger(__name__)


class Tasks:
    """Keeps background tasks alive until they end or `close` cancels them; logs each that fails."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    def spawn(self, name: str, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run `work` in a task of that name, which the log shows if it fails."""
        task = asyncio.create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    async def finish(self, seconds: float) -> None:
        """Let the tasks end by themselves for that long, then cancel them."""
        if self._running:
            await asyncio.wait(self._running, timeout=seconds)
        await self.close()

    async def close(self) -> None:
        """Cancel all tasks and wait until they have ended."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("task %s ended unexpectedly", task.get_name(), exc_info=error)


async def set_within(event: asyncio.Event, seconds: float) -> bool:
    """Wait until `event` is set, for at most `seconds` (0: not at all); return whether it is.

    Not `asyncio.wait_for`: before Python 3.12 a task that is cancelled in the moment in which its event is set goes on
    as if nobody had cancelled it. A loop around it never ends, nor does who waits for the task.
    """
    if seconds > 0 and not event.is_set():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await event.wait()
    return event.is_set()
