"""Requests of users and alerts for a number of instances."""

from __future__ import annotations

import asyncio

from rescoldo.control.fleet.fleet import Fleet
from rescoldo.model.errors import InvalidInput
from rescoldo.model.names import FunctionId
from rescoldo.model.scaling import MAX_REPLICAS

REASON = "requested with scale, or by an alert"


class ScaleRequests:
    """Brings functions to a requested number of instances."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    async def scale(self, function: FunctionId, replicas: int) -> None:
        """Bring the function to `replicas` instances; 0 puts it to sleep. Raises NotFound, InvalidInput, Conflict if
        it is paused, and the errors of `Wakes.wake`."""
        fleet = self._fleet
        entry = fleet.entries.current(function)
        if not 0 <= replicas <= MAX_REPLICAS:
            raise InvalidInput(f"replicas: {replicas} is not allowed; use 0 to {MAX_REPLICAS}")
        if replicas == 0:
            await fleet.requested.change(entry, 0)
            revisions = fleet.entries.revisions(function)
            await asyncio.gather(*(fleet.retirement.unroute(one, "scaled to zero") for one in revisions))
            return
        entry.check_not_paused("has no instances")
        await fleet.wakes.wake(function, REASON)  # before the save: a failed start leaves no request behind
        await fleet.requested.change(entry, replicas)
        fleet.replicas.want(entry, replicas, REASON)
