"""The state of functions: the part that the store keeps for the next controller (`Standing`), and the one that users
see (`State`)."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
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
    """Keeps each function's standing, in its entry and in the store."""

    def __init__(self, store: Functions, tasks: Tasks) -> None:
        self._store = store
        self._tasks = tasks
        self._unsaved = Counter[Entry]()  # changes that the store does not have yet; they win over others'

    async def load(self, entries: Mapping[RouteKey, Entry]) -> None:
        """Read the standings from the store."""
        for function, standing in (await self._store.standings()).items():
            self.restore(entries[function], standing)

    def restore(self, entry: Entry, standing: Standing) -> None:
        """Give an entry the standing that the store has. Users see a failed start, and the next call tries again."""
        entry.standing, entry.failure = standing, None
        if standing.failure:
            entry.failure = Failure(StartFailed(standing.failure), 0, asyncio.get_running_loop().time())

    def is_saved(self, entry: Entry) -> bool:
        """Whether the store has all our changes."""
        return entry not in self._unsaved

    def note(self, entry: Entry, **changes: Any) -> None:
        """Change the standing now, and save it soon. A past revision has no standing of its own."""
        if entry.past or (changed := replace(entry.standing, **changes)) == entry.standing:
            return
        entry.standing = changed
        self.save_soon(entry)

    async def change(self, entry: Entry, **changes: Any) -> None:
        """Change the standing, and return once the store has it. Raises StoreError, and then nothing has changed."""
        before = entry.standing
        entry.standing = replace(before, **changes)
        self._unsaved[entry] += 1
        try:
            await self._save(entry)
        except StoreError:
            entry.standing = before
            raise
        finally:
            self._saved(entry)

    def save_soon(self, entry: Entry) -> None:
        """Save the standing in the background; a failure is logged."""
        self._unsaved[entry] += 1
        self._tasks.spawn(f"save the state of {entry.id}", self._save_or_log(entry))

    async def _save_or_log(self, entry: Entry) -> None:
        try:
            await self._save(entry)
        except StoreError as error:
            log.warning("%s: its state is not saved in the store: %s", entry.id, error.message)
        finally:
            self._saved(entry)

    def _saved(self, entry: Entry) -> None:
        self._unsaved[entry] -= 1
        if not self._unsaved[entry]:
            del self._unsaved[entry]

    async def _save(self, entry: Entry) -> None:
        """Write the standing as it is when the write begins, so that the last write has the last standing."""
        if not entry.removed:  # another function may have its name by now
            await self._store.save_standing(entry.id, entry.standing)


def state_of(entry: Entry, running: int) -> State:
    """The state of a function whose current revision is `entry`; `running` counts its instances that answer."""
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
    """Instances that a revision should have now, including those being started and those about to be stopped."""
    if (awake := entry.awake) is not None:
        return max(awake.wanted, len(awake.servers))
    if entry.standing.paused:
        return 0
    starting = entry.waking is not None or entry.trial is not None
    return max(entry.kept, entry.wake_number if starting else 0)


def reason_of(entry: Entry, state: State) -> str:
    """The reason for a state, for users; empty where the state says enough."""
    return entry.failure.error.message if state is State.FAILING and entry.failure is not None else ""


def kept_failure(standing: Standing) -> str:
    """Why the current revision has never started, for the list of revisions; empty if it has, or still may."""
    return standing.failure if standing.untried else ""
