"""What a worker tells its cluster's control about its functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from rescoldo.control.fleet.entries import Entries
from rescoldo.model.deployed import Deployed
from rescoldo.model.names import FunctionId


class Served:
    """Implements `Serving` of link/reports.py."""

    def __init__(self, entries: Entries, is_changing: Callable[[FunctionId], bool] = lambda _: False) -> None:
        """`is_changing`: whether a change of a function is under way, which the edge may not have heard of yet."""
        self._entries = entries
        self._is_changing = is_changing

    def awake(self) -> Mapping[FunctionId, int]:
        """The instances of all revisions of a function, together."""
        found = Counter[FunctionId]()
        for entry in self._entries.values():
            if entry.awake is not None and entry.awake.servers:
                found[entry.id] += len(entry.awake.servers)
        return dict(found)

    def knows(self, function: FunctionId) -> bool:
        """Whether the fleet has the function."""
        return function in self._entries

    def is_changing(self, function: FunctionId) -> bool:
        """Whether a change of the function is under way."""
        return self._is_changing(function)

    def serves(self, document: Deployed) -> bool:
        """Whether the fleet has the document's deployment, and what its users asked for; not a refused revision."""
        entry = self._entries.get(document.id)
        return (
            entry is not None
            and entry.function == document.function
            and entry.requested == document.requested
            and entry.standing.paused == document.standing.paused
        )
