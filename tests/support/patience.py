"""How long tests wait, on a machine that is slower than one of its own."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import Any

# scripts/cgroup2 sets it where the processor is emulated; what is waited for gets so many times its usual seconds
SLOWNESS = float(os.environ.get("RESCOLDO_TEST_SLOWNESS", "1"))


async def until(condition: Callable[[], Any], seconds: float = 15.0) -> None:
    """Wait for `condition` (a plain or async function) to hold."""
    deadline = time.monotonic() + seconds * SLOWNESS
    while True:
        result = condition()
        if asyncio.iscoroutine(result):
            result = await result
        if result:
            return
        assert time.monotonic() < deadline, f"{condition} does not come true"
        await asyncio.sleep(0.01)
