"""Removes functions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from rescoldo.control.deploy.change_context import ChangeContext
from rescoldo.control.deploy.traffic import Traffic
from rescoldo.control.fleet.entry import Entry
from rescoldo.model.names import FunctionId


class Removals:
    """Deletes functions, with everything that was kept of them."""

    def __init__(
        self, context: ChangeContext, traffic: Traffic, on_removed: Callable[[FunctionId], Awaitable[None]]
    ) -> None:
        """`on_removed` is awaited before another function can be deployed under the removed name."""
        self._store = context.store
        self._fleet = context.fleet
        self._images = context.images
        self._check = context.check
        self._traffic = traffic
        self._changes = context.changes
        self._on_removed = on_removed

    async def remove(self, function: FunctionId) -> None:
        """See api.protocol.Removals. A check of the function's next revision is called off."""
        self._check.call_off(function)
        try:
            async with self._changes.of(function):
                entry = self._fleet.entries.current(function)
                await self._store.delete_function(function)
                await self.apply(entry)
        finally:
            self._check.removed(function)

    async def apply(self, entry: Entry) -> None:
        """Let go of a function that the store has deleted; the caller holds its lock."""
        function = entry.id
        del self._fleet.entries[function]
        await self._fleet.retirement.unroute(entry, "removed")
        entry.remove()
        await self._fleet.routes.forget(function)
        await self._traffic.end(entry.function, entry.function.traffic)
        self._fleet.instances.lifetimes.forget(function)
        await self._on_removed(function)
        self._images.collect_soon()
