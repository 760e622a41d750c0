"""Control's requests to keep a function awake on this worker; see upkeep.py."""

from __future__ import annotations

from collections.abc import Callable

from rescoldo.control.fleet.entry import Entry
from rescoldo.control.fleet.fleet import Fleet
from rescoldo.model.names import FunctionId

REASON = "its minimum, or the number requested with scale"


class KeepRequests:
    """Renews functions' upkeep, tries what was deployed without a worker, and wakes those that have a minimum or a
    requested number."""

    def __init__(self, fleet: Fleet, resume: Callable[[Entry], None]) -> None:
        """`resume` begins a first start that is due."""
        self._fleet = fleet
        self._resume = resume

    async def keep(self, function: FunctionId) -> None:
        """See api.protocol.Upkeep. A function that a user has scaled to zero stays asleep until its next call."""
        entry = await self._fleet.wakes.found(function)
        self._fleet.upkeep.renew(entry.id)
        if entry.trial is None:
            self._resume(entry)
        for one in self._fleet.entries.revisions(entry.id):
            if one.awake is not None and one.awake.wanted < one.kept:
                self._fleet.replicas.want(one, one.kept, REASON)
            elif not one.resting:
                self._fleet.wakes.keep_awake_soon(one)
