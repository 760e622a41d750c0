"""Watchers of lost instances."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from rescoldo.node.protocol import Exit

_WATCHER_QUEUE = 1000  # exits queued for a watcher that does not read


class Exits:
    """Reports lost instances to every watcher."""

    def __init__(self) -> None:
        self._watchers: set[asyncio.Queue[Exit | None]] = set()

    def tell(self, lost: Exit) -> None:
        """Report a lost instance; never waits. A full queue of a watcher that does not read is replaced by one
        None."""
        for queue in self._watchers:
            if queue.full():
                while not queue.empty():
                    queue.get_nowait()
                queue.put_nowait(None)
            else:
                queue.put_nowait(lost)

    async def watch(self) -> AsyncGenerator[Exit | None, None]:
        """Exits from now on; None after a gap: the watcher should then compare with `Node.instances`."""
        queue: asyncio.Queue[Exit | None] = asyncio.Queue(_WATCHER_QUEUE)
        self._watchers.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._watchers.discard(queue)
