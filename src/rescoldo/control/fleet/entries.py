"""The revisions that take traffic."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from rescoldo.control.fleet.entry import Entry
from rescoldo.control.fleet.upkeep import Upkeep
from rescoldo.model.errors import NotFound
from rescoldo.model.function import Function, FunctionPolicy
from rescoldo.model.names import FunctionId, RouteKey, revision_key
from rescoldo.model.standing import PLAIN, Standing


class Entries(dict[RouteKey, Entry]):
    """Every revision that takes traffic, by its name at the edge. `woken` is set when one wakes, so that sleeper and
    scaler start their rounds."""

    def __init__(self, upkeep: Upkeep) -> None:
        super().__init__()
        self.woken = asyncio.Event()
        self._upkeep = upkeep

    def add(
        self, function: Function, policy: FunctionPolicy, *, past: bool = False, requested: int = 0,
        standing: Standing = PLAIN,
    ) -> Entry:
        """Add a revision, asleep, in the place of another with its key."""
        entry = Entry(function, policy, past=past, upkeep=self._upkeep, standing=standing, requested=requested)
        self[entry.key] = entry
        return entry

    def functions(self) -> Iterator[Entry]:
        """The current revision of each function."""
        return (entry for entry in self.values() if not entry.past)

    def revisions(self, function: FunctionId) -> list[Entry]:
        """The revisions of a function that take traffic, the current one first; empty if the function is not
        deployed."""
        current = self.get(function)
        if current is None:
            return []
        others = (self.get(revision_key(function, number)) for number in current.function.traffic)
        return [current, *(entry for entry in others if entry is not None)]

    def current(self, function: RouteKey) -> Entry:
        """The current revision of a function, or the revision with that key. Raises NotFound."""
        entry = self.get(function)
        if entry is None:
            raise not_deployed(function)
        return entry

    def is_paused(self, entry: Entry) -> bool:
        """Whether the function of a revision is paused."""
        current = self.get(entry.id) if entry.past else entry
        return current is not None and current.standing.paused


def not_deployed(function: RouteKey) -> NotFound:
    """The error for a function that does not exist."""
    return NotFound(f"function {function} is not deployed here; see the names with: rescoldo list")
