"""The functions with max-strict, for the grants of a worker."""

from __future__ import annotations

import asyncio
from collections.abc import Set

from rescoldo.control.fleet.fleet import Fleet
from rescoldo.model.names import FunctionId


class StrictFunctions:
    """Implements `Strict` of link/grants.py."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def running(self, held: Set[FunctionId]) -> Set[FunctionId]:
        """Those of `held`, and those of which any revision has max-strict, that have an instance."""
        strict = {entry.id for entry in self._fleet.entries.values() if entry.policy.max_strict}
        return {function for function in strict | held if self._fleet.instances.lifetimes.existing(function)}

    async def end(self, function: FunctionId) -> None:
        """Stop the processes first: the edge may be away, and it can only wait for them."""
        instances = self._fleet.instances
        stopping = [instances.stop(instance) for instance in instances.lifetimes.existing(function)]
        await asyncio.gather(*stopping, self._unroute(function, "its grant ended, and control did not renew it"))

    async def let_go(self, function: FunctionId) -> None:
        """The next call here asks for a grant again."""
        await self._unroute(function, "another worker has its calls")

    async def _unroute(self, function: FunctionId, reason: str) -> None:
        revisions = self._fleet.entries.revisions(function)
        await asyncio.gather(*(self._fleet.retirement.unroute(one, reason) for one in revisions))
