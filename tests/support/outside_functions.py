"""A read-only source of functions for a controller, as for functions that are declared elsewhere."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from rescoldo.model.function import Function
from rescoldo.model.names import FunctionId
from rescoldo.model.revision import Revision
from rescoldo.model.standing import Standing
from rescoldo.store.changes import Watchers


@dataclass
class OutsideFunctions:
    """Implements `FunctionSource`. `put`, `take_away` and `lose_sight` play the events elsewhere."""

    declared: dict[FunctionId, Function] = field(default_factory=dict)
    past: dict[FunctionId, list[Revision]] = field(default_factory=dict)
    _watchers: Watchers = field(default_factory=Watchers)

    def put(self, function: Function) -> None:
        """Declare a function or change its declaration."""
        before = self.declared.get(function.id)
        if before is not None and before.revision != function.revision:
            self.past.setdefault(function.id, []).insert(0, Revision.of(before))
        self.declared[function.id] = function
        self._watchers.note(function.id)

    def take_away(self, function: FunctionId) -> None:
        """Remove a declaration."""
        self.declared.pop(function, None)
        self.past.pop(function, None)
        self._watchers.note(function)

    def lose_sight(self) -> None:
        """Lose and regain the connection to the declarations."""
        self._watchers.note(None)

    async def functions(self) -> list[Function]:
        return [self.declared[key] for key in sorted(self.declared)]

    async def function(self, function: FunctionId) -> Function | None:
        return self.declared.get(function)

    async def revisions(self, function: FunctionId) -> list[Revision]:
        return list(self.past.get(function, []))

    async def revision_digests(self) -> set[str]:
        return {one.digest for kept in self.past.values() for one in kept if not one.failure}

    async def requested_replicas(self) -> dict[FunctionId, int]:
        return {}

    async def standings(self) -> dict[FunctionId, Standing]:
        return {}

    def watch(self) -> AsyncIterator[FunctionId | None]:
        return self._watchers.add()
