"""How many instances a user requested of a function: the least it has until it sleeps.

The number is in the store, so that it holds for a next controller, and for a platform that is started again.
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
    def __init__(self, store: Functions, tasks: Tasks) -> None:
        self._store = store
        self._tasks = tasks

    async def load(self, entries: Mapping[RouteKey, Entry]) -> None:
        """Read what the store has."""
        for function, number in (await self._store.requested_replicas()).items():
            entries[function].requested = number

    async def change(self, entry: Entry, number: int) -> None:
        """Remember a request; 0 ends it. Raises StoreError; nothing has changed then."""
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
        """It sleeps: the request is over."""
        if entry.requested:
            entry.requested = 0
            self._tasks.spawn(f"clear the requested replicas of {entry.id}", self._forget(entry))

    async def _forget(self, entry: Entry) -> None:
        try:
            await self._save(entry)
        except StoreError as error:  # the next start wakes it with that many once more
            log.warning("%s: the requested replicas stay in the store: %s", entry.id, error.message)

    async def _save(self, entry: Entry) -> None:
        """The number as it is when this begins: the last one that is saved is the last one that holds."""
        if not entry.removed:  # its name may be another function's by now
            await self._store.save_requested_replicas(entry.id, entry.requested)
