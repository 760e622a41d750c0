"""Pauses and resumes functions."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from rescoldo.control.deploy.first_starts import FirstStarts
from rescoldo.control.fleet.entry import Entry
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
        await self._let_go(entry)

    async def _let_go(self, entry: Entry) -> None:
        revisions = self._fleet.entries.revisions(entry.id)
        await asyncio.gather(*(self._fleet.retirement.unroute(one, "paused") for one in revisions))

    async def resume(self, function: FunctionId) -> None:
        """See api.protocol.Pauses."""
        entry = self._fleet.entries.current(function)
        if not entry.standing.paused:
            return
        await self._fleet.standings.change(entry, paused=False)
        if entry.standing.untried:
            self._trials.begin(entry)
        await self._go_on(entry)

    async def take_over(self, entry: Entry, *, paused: bool) -> None:
        """Pause or resume a function as others have saved it. Who has resumed it tries a revision that is untried."""
        if paused == entry.standing.paused or not self._fleet.standings.is_saved(entry):
            return
        entry.standing = replace(entry.standing, paused=paused)
        await (self._let_go(entry) if paused else self._go_on(entry))

    async def _go_on(self, entry: Entry) -> None:
        await self._fleet.routes.publish(entry)
        for one in self._fleet.entries.revisions(entry.id):
            self._fleet.wakes.keep_awake_soon(one)
