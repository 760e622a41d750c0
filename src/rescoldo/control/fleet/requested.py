"""How many instances of a function its user asked for: the least it has until it sleeps.

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
        """Read what was asked for."""
        for function, number in (await self._store.requested_replicas()).items():
            entries[function].asked = number

    async def change(self, entry: Entry, number: int) -> None:
        """Remember what is asked for, 0 for nothing. Raises StoreError; nothing has changed then."""
        before = entry.asked
        if number == before:
            return
        entry.asked = number
        try:
            await self._save(entry)
        except StoreError:
            entry.asked = before
            raise

    def end(self, entry: Entry) -> None:
        """It sleeps: what was asked for is over."""
        if entry.asked:
            entry.asked = 0
            self._tasks.spawn(f"forget what was asked of {entry.id}", self._forget(entry))

    async def _forget(self, entry: Entry) -> None:
        try:
            await self._save(entry)
        except StoreError as error:  # the next start wakes it with that many once more
            log.warning("%s: what was asked for stays in the store: %s", entry.id, error.message)

    async def _save(self, entry: Entry) -> None:
        """The number as it is when this begins: the last one that is saved is the last one that holds."""
        if not entry.removed:  # its name may be another function's by now
            await self._store.save_requested_replicas(entry.id, entry.asked)
