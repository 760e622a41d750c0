"""Keeps the edge's routes in step with the revisions' states."""

from __future__ import annotations

import asyncio
import contextlib

from rescoldo.control.fleet.entries import Entries
from rescoldo.control.fleet.entry import Entry
from rescoldo.control.fleet.instances import Instances
from rescoldo.control.fleet.outages import RETRY_SECONDS
from rescoldo.edge.protocol import Edge, EdgeState
from rescoldo.model.errors import EdgeUnavailable
from rescoldo.model.names import RouteKey

PUBLISH_PAUSE = 0.002  # seconds from the answer of a wake to its route; a call between asks, and is answered at once


class Routes:
    """What the edge was told, and is still to be told."""

    def __init__(self, entries: Entries, instances: Instances, edge: Edge) -> None:
        self._entries = entries
        self._instances = instances
        self._edge = edge

    async def publish(self, entry: Entry) -> None:
        """Tell the edge the function's current route; return when the edge knows it.

        A stale route could point at a slot that was since lent to another function, so this retries until the edge
        confirms, and what takes a slot down waits for that.
        """
        async with entry.publishing:
            while not entry.removed and (route := entry.route) != entry.published:
                try:
                    await self._edge.set_route(route)
                except EdgeUnavailable:
                    entry.published = None
                    await asyncio.sleep(RETRY_SECONDS)
                else:
                    entry.published = route

    async def publish_soon(self, entry: Entry) -> None:
        """The same, and let those who wait for the wake go first: the edge has one thread for both."""
        await asyncio.sleep(PUBLISH_PAUSE)
        await self.publish(entry)

    async def forget(self, key: RouteKey) -> None:
        """Let the edge forget a route that is in `entries` no more."""
        with contextlib.suppress(EdgeUnavailable):  # a restarted edge gets those that are left
            await self._edge.drop_route(key)

    def edge_state(self) -> EdgeState:
        """All that the edge should know now; called when it is about to be applied."""
        for entry in self._entries.values():
            entry.published = entry.route
        return EdgeState(tuple(e.route for e in self._entries.values()), tuple(self._instances.live.values()))
