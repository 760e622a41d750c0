"""How functions stand: what of it is kept for the next controller (`Standing`), and what a user sees (`State`)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rescoldo.control.fleet.entry import Entry, Failure
from rescoldo.model.errors import StartFailed, StoreError
from rescoldo.model.names import RouteKey
from rescoldo.model.standing import Standing, State
from rescoldo.store.protocol import Functions
from rescoldo.tasks import Tasks

log = logging.getLogger(__name__)


class Standings:
    def __init__(self, store: Functions, tasks: Tasks) -> None:
        self._store = store
        self._tasks = tasks

    async def load(self, entries: Mapping[RouteKey, Entry]) -> None:
        """Read what is kept. Users see a start that failed, and the next call tries it anew."""
        now = asyncio.get_running_loop().time()
        for function, standing in (await self._store.standings()).items():
            entry = entries[function]
            entry.standing = standing
            if standing.failure:
                entry.failure = Failure(StartFailed(standing.failure), 0, now)

    def note(self, entry: Entry, **changes: Any) -> None:
        """Change it now, and soon in the store. Nothing is kept of a past revision."""
        if entry.past or (changed := replace(entry.standing, **changes)) == entry.standing:
            return
        entry.standing = changed
        self.save_soon(entry)

    async def change(self, entry: Entry, **changes: Any) -> None:
        """Change it now, and return when it is in the store. Raises StoreError; nothing has changed then."""
        before = entry.standing
        entry.standing = replace(before, **changes)
        try:
            await self._save(entry)
        except StoreError:
            entry.standing = before
            raise

    def save_soon(self, entry: Entry) -> None:
        self._tasks.spawn(f"save the state of {entry.id}", self._save_or_log(entry))

    async def _save_or_log(self, entry: Entry) -> None:
        try:
            await self._save(entry)
        except StoreError as error:
            log.warning("%s: its state is not saved in the store: %s", entry.id, error.message)

    async def _save(self, entry: Entry) -> None:
        """As it is when this begins: the last one that is saved is the last one that holds."""
        if not entry.removed:  # its name may be another function's by now
            await self._store.save_standing(entry.id, entry.standing)


def state_of(entry: Entry, running: int) -> State:
    """How a function stands whose current revision is `entry`, with so many instances that answer."""
    if entry.standing.paused:
        return State.PAUSED
    if running:
        return State.READY
    if entry.trial is not None:
        return State.DEPLOYING
    if entry.failure is not None:
        return State.FAILING
    return State.STARTING if entry.waking is not None or entry.kept else State.ASLEEP


def wanted_of(entry: Entry) -> int:
    """Instances that a revision is to have now: those on their way, those that are to go soon, and those it has."""
    if (awake := entry.awake) is not None:
        return max(awake.wanted, len(awake.servers))
    if entry.standing.paused:
        return 0
    starting = entry.waking is not None or entry.trial is not None
    return max(entry.kept, entry.wake_number if starting else 0)


def reason_of(entry: Entry, state: State) -> str:
    """Why, for a user; empty where the state says it."""
    return entry.failure.error.message if state is State.FAILING and entry.failure is not None else ""


def kept_failure(standing: Standing) -> str:
    """Why the current revision has never started, for the list of revisions; empty where it has, or may yet."""
    return standing.failure if standing.untried else ""
