"""The number of instances that a user requested for a function: its minimum until it sleeps.

The number is in the store, so that it outlives the controller and the platform. Where others change the store, too, a
change of ours that is not saved yet wins over theirs: our save comes after it.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping

from rescoldo.control.fleet.entry import Entry
from rescoldo.model.errors import StoreError
from rescoldo.model.names import RouteKey
from rescoldo.store.protocol import Functions
from rescoldo.tasks import Tasks

log = logging.getLogger(__name__)


class RequestedReplicas:
    """Keeps requested numbers, in the entries and in the store."""

    def __init__(self, store: Functions, tasks: Tasks) -> None:
        self._store = store
        self._tasks = tasks
        self._unsaved = Counter[Entry]()  # changes that the store does not have yet

    async def load(self, entries: Mapping[RouteKey, Entry]) -> None:
        """Read the numbers from the store."""
        for function, number in (await self._store.requested_replicas()).items():
            entries[function].requested = number

    async def change(self, entry: Entry, number: int) -> None:
        """Save a requested number; 0 ends the request. Raises StoreError, and then nothing has changed.

        The request has reached this worker as calls do, so it renews the function's upkeep."""
        entry.resting = number == 0
        entry.upkeep.renew(entry.id)
        before = entry.requested
        if number == before:
            return
        entry.requested = number
        self._unsaved[entry] += 1
        try:
            await self._save(entry)
        except StoreError:
            entry.requested = before
            raise
        finally:
            self._saved(entry)

    def take_over(self, entry: Entry, number: int) -> bool:
        """Take over the number that the store has; return whether it was another one."""
        if entry in self._unsaved or number == entry.requested:
            return False
        entry.requested = number
        return True

    def end(self, entry: Entry) -> None:
        """End the request of a function that falls asleep. It goes on where another worker may have the function."""
        if entry.requested and entry.upkeep.is_owner(entry.id):
            entry.requested = 0
            self._unsaved[entry] += 1
            self._tasks.spawn(f"clear the requested replicas of {entry.id}", self._forget(entry))

    async def _forget(self, entry: Entry) -> None:
        try:
            await self._save(entry)
        except StoreError as error:  # after a restart of the platform, the function gets that many once more
            log.warning("%s: the requested replicas stay in the store: %s", entry.id, error.message)
        finally:
            self._saved(entry)

    def _saved(self, entry: Entry) -> None:
        self._unsaved[entry] -= 1
        if not self._unsaved[entry]:
            del self._unsaved[entry]

    async def _save(self, entry: Entry) -> None:
        """Write the number as it is when the write begins, so that the last write has the last number."""
        if not entry.removed:  # another function may have its name by now
            await self._store.save_requested_replicas(entry.id, entry.requested)
