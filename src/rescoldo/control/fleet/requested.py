"""The number of instances that a user requested for a function: its minimum until it sleeps.

The number is in the store, so that it outlives the controller and the platform.
"""

from __future__ import annotations

import logging
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

    async def load(self, entries: Mapping[RouteKey, Entry]) -> None:
        """Read the numbers from the store."""
        for function, number in (await self._store.requested_replicas()).items():
            entries[function].requested = number

    async def change(self, entry: Entry, number: int) -> None:
        """Save a requested number; 0 ends the request. Raises StoreError, and then nothing has changed."""
        before = entry.requested
        if number == before:
            return
        entry.requested = number
        try:
            await self._save(entry)
        except StoreError:
            entry.requested = before
            raise

    def end(self, entry: Entry) -> None:
        """End the request of a function that falls asleep."""
        if entry.requested:
            entry.requested = 0
            self._tasks.spawn(f"clear the requested replicas of {entry.id}", self._forget(entry))

    async def _forget(self, entry: Entry) -> None:
        try:
            await self._save(entry)
        except StoreError as error:  # after a restart of the platform, the function gets that many once more
            log.warning("%s: the requested replicas stay in the store: %s", entry.id, error.message)

    async def _save(self, entry: Entry) -> None:
        """Write the number as it is when the write begins, so that the last write has the last number."""
        if not entry.removed:  # another function may have its name by now
            await self._store.save_requested_replicas(entry.id, entry.requested)
