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
        self._context = context
        self._traffic = traffic
        self._on_removed = on_removed

    async def remove(self, function: FunctionId) -> None:
        """See api.protocol.Removals. A check of the function's next revision is called off."""
        self._context.check.call_off(function)
        try:
            async with self._context.changes.of(function):
                entry = self._context.fleet.entries.current(function)
                await self._context.store.delete_function(function)
                await self.apply(entry)
        finally:
            self._context.check.removed(function)

    async def apply(self, entry: Entry) -> None:
        """Let go of a function that the store has deleted; the caller holds its lock."""
        function = entry.id
        del self._context.fleet.entries[function]
        await self._context.fleet.retirement.unroute(entry, "removed")
        entry.remove()
        await self._context.fleet.routes.forget(function)
        await self._traffic.end(entry.function, entry.function.traffic)
        self._context.fleet.instances.lifetimes.forget(function)
        await self._on_removed(function)
        self._context.images.collect_soon()
