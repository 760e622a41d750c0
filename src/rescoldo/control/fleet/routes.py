"""Keeps the edge's routes in step with the revisions' states."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable

from rescoldo.control.fleet.entries import Entries
from rescoldo.control.fleet.entry import Entry
from rescoldo.control.fleet.instances import Instances
from rescoldo.control.fleet.outages import RETRY_SECONDS
from rescoldo.edge.protocol import Edge, EdgeState, Route
from rescoldo.model.errors import EdgeUnavailable
from rescoldo.model.names import RouteKey

PUBLISH_PAUSE = 0.002  # seconds from a wake's answer to its route; a call in between is answered at once, too


class Routes:
    """Publishes each revision's route, and remembers what the edge has confirmed."""

    def __init__(self, entries: Entries, instances: Instances, edge: Edge, *, complete: bool) -> None:
        """`complete`: a name without an entry is no function; otherwise it may be found when it is called."""
        self._entries = entries
        self._instances = instances
        self._edge = edge
        self._complete = complete

    async def publish(self, entry: Entry) -> None:
        """Send the edge the revision's current route; return when the edge has confirmed it.

        A stale route could point at a slot that was since lent to another function, so this retries until the edge
        confirms, and whatever takes a slot down waits for that.
        """
        async with entry.publishing:  # one at a time, so that an older route cannot arrive after a newer one
            while not entry.removed and (route := entry.route) != entry.published:
                try:
                    await self._edge.set_route(route)
                except EdgeUnavailable:
                    entry.published = None
                    await asyncio.sleep(RETRY_SECONDS)
                else:
                    entry.published = route

    async def publish_soon(self, entry: Entry) -> None:
        """Publish after PUBLISH_PAUSE, so that the callers of the wake go first: one thread of the edge serves both."""
        await asyncio.sleep(PUBLISH_PAUSE)
        await self.publish(entry)

    async def forget(self, key: RouteKey) -> None:
        """Drop the route of a revision that is not in `entries` any more."""
        with contextlib.suppress(EdgeUnavailable):  # a restarted edge gets only the routes in `entries`
            await self._edge.drop_route(key)

    def edge_state(self) -> EdgeState:
        """Everything that the edge should have now."""
        return self._state(e.route for e in self._entries.values())

    def _state(self, routes: Iterable[Route]) -> EdgeState:
        return EdgeState(tuple(routes), tuple(self._instances.live.values()), self._complete)

    async def synchronise(self) -> None:
        """Send the edge the whole state, for example after its restart. Raises EdgeUnavailable.

        No route counts as published until the edge has confirmed the state: if that fails half-way, `publish` sends
        the routes one by one. A route that `publish` sends meanwhile is newer than the state, and stays as it is.
        """
        sent: dict[Entry, Route] = {}

        def state() -> EdgeState:
            for entry in self._entries.values():
                entry.published = None
                sent[entry] = entry.route
            return self._state(sent.values())

        await self._edge.synchronise(state)
        for entry, route in sent.items():
            if entry.published is None:
                entry.published = route
