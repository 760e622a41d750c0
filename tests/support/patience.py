"""Scales the timeouts of tests on a slow machine."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import Any

# scripts/cgroup2 sets this factor of all timeouts if it emulates the processor
SLOWNESS = float(os.environ.get("RESCOLDO_TEST_SLOWNESS", "1"))


async def until(condition: Callable[[], Any], seconds: float = 15.0) -> None:
    """Wait until `condition` (a plain or async function) is true."""
    deadline = time.monotonic() + seconds * SLOWNESS
    while True:
        result = condition()
        if asyncio.iscoroutine(result):
            result = await result
        if result:
            return
        assert time.monotonic() < deadline, f"{condition} does not become true"
        await asyncio.sleep(0.01)
