"""Pauses and resumes functions."""

from __future__ import annotations

import asyncio

from rescoldo.control.deploy.first_starts import FirstStarts
from rescoldo.control.fleet.fleet import Fleet
from rescoldo.model.names import FunctionId


class Pauses:
    """Refuses the calls of chosen functions until a user resumes them."""

    def __init__(self, fleet: Fleet, trials: FirstStarts) -> None:
        self._fleet = fleet
        self._trials = trials

    async def pause(self, function: FunctionId) -> None:
        """See api.protocol.Pauses."""
        entry = self._fleet.entries.current(function)
        await self._fleet.standings.change(entry, paused=True)
        revisions = self._fleet.entries.revisions(function)
        await asyncio.gather(*(self._fleet.retirement.unroute(one, "paused") for one in revisions))

    async def resume(self, function: FunctionId) -> None:
        """See api.protocol.Pauses."""
        entry = self._fleet.entries.current(function)
        if not entry.standing.paused:
            return
        await self._fleet.standings.change(entry, paused=False)
        await self._fleet.routes.publish(entry)
        if entry.standing.untried:
            self._trials.begin(entry)
        for one in self._fleet.entries.revisions(function):
            self._fleet.wakes.keep_awake_soon(one)
