"""Lists the revisions that a function keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rescoldo.control.fleet.entries import Entries
from rescoldo.control.fleet.entry import Entry
from rescoldo.control.fleet.standings import kept_failure
from rescoldo.model.errors import InvalidInput
from rescoldo.model.function import Function
from rescoldo.model.names import FunctionId
from rescoldo.model.revision import Revision, RevisionStatus
from rescoldo.store.protocol import Store


class Revisions:
    """Lists revisions with their traffic and instances."""

    def __init__(self, store: Store, entries: Entries) -> None:
        self._store = store
        self._entries = entries

    async def revisions(self, function: FunctionId) -> list[RevisionStatus]:
        """See api.protocol.Revisions."""
        entry = self._entries.current(function)
        current = entry.function
        kept = [_current(entry), *await self._store.revisions(function)]
        awake = {e.function.revision: e.awake for e in self._entries.revisions(function) if e.awake is not None}
        running = {number: len(one.servers) for number, one in awake.items()}
        traffic = current.traffic or {current.revision: 100}
        return [
            RevisionStatus(one, one.number == current.revision, traffic.get(one.number, 0), running.get(one.number, 0))
            for one in sorted(kept, key=lambda one: one.number, reverse=True)
        ]


def _current(entry: Entry) -> Revision:
    """The current revision, with the reason if it has never started."""
    return replace(Revision.of(entry.function), failure=kept_failure(entry.standing))


def past_revision(current: Function, kept: Sequence[Revision], number: int | None) -> Revision:
    """The revision with that number; without a number, the last past one that started. Raises InvalidInput if it is
    not kept or did not start."""
    if number is None:
        if last := next((past for past in kept if not past.failure), None):
            return last
        raise InvalidInput(f"{current.id} has no revision before {current.revision} to roll back to")
    if number == current.revision:
        return Revision.of(current)
    past = next((past for past in kept if past.number == number), None)
    if past is None:
        raise InvalidInput(
            f"revision {number} of {current.id} is not kept; see the kept revisions with: rescoldo revisions "
            f"{current.spec.name}"
        )
    if past.failure:
        raise InvalidInput(f"revision {number} of {current.id} did not start when it was deployed; deploy it again")
    return past
