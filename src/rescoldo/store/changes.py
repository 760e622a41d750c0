"""Queues changed functions for the watchers of a `FunctionSource`.

The queue holds ids, not functions: the watcher reads the current function when it applies a change. So ten changes of
one function while its watcher is busy become one item, and no order of items can undo a change. More than MOST ids
become one "look at all": reading 10,000 functions one by one takes longer than reading all of them at once.
"""

from __future__ import annotations

import asyncio
from weakref import WeakSet

from rescoldo.model.names import FunctionId

MOST = 1000  # ids in one watcher's queue


class ChangeQueue:
    """Iterates over changed functions; None means "look at all". Ends when its source is closed."""

    def __init__(self) -> None:
        self._waiting: dict[FunctionId, None] = {}  # in the order of their first change
        self._all = False
        self._closed = False
        self._noted = asyncio.Event()

    def note(self, function: FunctionId | None) -> None:
        """Queue a function that was saved or removed; None: any function may have changed."""
        if function is None or len(self._waiting) >= MOST:
            self._all = True
            self._waiting.clear()
        elif not self._all:
            self._waiting[function] = None
        self._noted.set()

    def close(self) -> None:
        """Add nothing more; the iteration ends once the queue is empty."""
        self._closed = True
        self._noted.set()

    def __aiter__(self) -> ChangeQueue:
        return self

    async def __anext__(self) -> FunctionId | None:
        while True:
            if self._all:
                self._all = False
                return None
            if self._waiting:
                function = next(iter(self._waiting))
                del self._waiting[function]
                return function
            if self._closed:
                raise StopAsyncIteration
            self._noted.clear()
            await self._noted.wait()


class Watchers:
    """The watchers of one source. A watcher that drops its iterator stops watching."""

    def __init__(self) -> None:
        self._all: WeakSet[ChangeQueue] = WeakSet()  # weak, so that a dropped iterator needs no goodbye

    def add(self) -> ChangeQueue:
        """Add a watcher, which sees the changes from now on."""
        queue = ChangeQueue()
        self._all.add(queue)
        return queue

    def note(self, function: FunctionId | None) -> None:
        """Queue a change for every watcher; see `ChangeQueue.note`."""
        for queue in self._all:
            queue.note(function)

    def close(self) -> None:
        """End the watchers' iterations."""
        for queue in self._all:
            queue.close()
