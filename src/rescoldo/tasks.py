"""Waiting in a task, so that its cancellation is never lost. All layers may use this."""

from __future__ import annotations

import asyncio
import contextlib


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
