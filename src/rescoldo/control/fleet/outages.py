"""Waits out a restart of the node or the edge, which takes a moment, by retrying."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from rescoldo.model.errors import EdgeUnavailable, NodeUnavailable

RETRY_SECONDS = 0.05  # between two tries

T = TypeVar("T")


async def outlast(ask: Callable[[], Awaitable[T]], pause: float = RETRY_SECONDS) -> T:
    """Return what `ask` returns once node and edge can be reached; retry every `pause` seconds until then."""
    while True:
        try:
            return await ask()
        except (NodeUnavailable, EdgeUnavailable):
            await asyncio.sleep(pause)
