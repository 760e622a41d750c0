"""Who watches for instances that are lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from rescoldo.node.protocol import Exit

_WATCHER_QUEUE = 1000  # exits kept for a watcher that does not read


class Exits:
    """Tells every watcher of the instances that were lost."""

    def __init__(self) -> None:
        self._watchers: set[asyncio.Queue[Exit | None]] = set()

    def tell(self, lost: Exit) -> None:
        """Never waits: for a watcher that does not read, what exceeds its queue becomes one None."""
        for queue in self._watchers:
            if queue.full():
                while not queue.empty():
                    queue.get_nowait()
                queue.put_nowait(None)
            else:
                queue.put_nowait(lost)

    async def watch(self) -> AsyncGenerator[Exit | None, None]:
        """What is lost from now on; None when some were missed: compare with what there is."""
        queue: asyncio.Queue[Exit | None] = asyncio.Queue(_WATCHER_QUEUE)
        self._watchers.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._watchers.discard(queue)
