"""Which functions others have changed, for those who watch a `FunctionSource`.

What is handed out are ids and not functions: whoever applies a change reads the function as it is by then. So a
function that changed ten times while its watcher was busy is one item, and no order of items can undo a change.
More than MOST ids become one "look at all": reading 10,000 functions one by one takes longer than reading all.
"""

from __future__ import annotations

import asyncio
from weakref import WeakSet

from rescoldo.model.names import FunctionId

MOST = 1000  # ids that wait for a watcher


class Changes:
    """An iterator over changed functions; None: look at all. It ends when its source is closed."""

    def __init__(self) -> None:
        self._waiting: dict[FunctionId, None] = {}  # in the order of their first change
        self._all = False
        self._closed = False
        self._noted = asyncio.Event()

    def note(self, function: FunctionId | None) -> None:
        """A function was saved or removed; None: any of them may have been."""
        if function is None or len(self._waiting) >= MOST:
            self._all = True
            self._waiting.clear()
        elif not self._all:
            self._waiting[function] = None
        self._noted.set()

    def close(self) -> None:
        """Nothing comes any more; what waits is handed out."""
        self._closed = True
        self._noted.set()

    def __aiter__(self) -> Changes:
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
    """Those who watch one source. One who lets go of the iterator is no watcher any more."""

    def __init__(self) -> None:
        self._all: WeakSet[Changes] = WeakSet()

    def add(self) -> Changes:
        """One more, who sees what is noted from now on."""
        changes = Changes()
        self._all.add(changes)
        return changes

    def note(self, function: FunctionId | None) -> None:
        """Tell all of them; see `Changes.note`."""
        for changes in self._all:
            changes.note(function)

    def close(self) -> None:
        """Let their iterations end."""
        for changes in self._all:
            changes.close()
