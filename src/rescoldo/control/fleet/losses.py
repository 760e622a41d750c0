"""Reacts to lost instances: an instance is lost when it ends unasked and the node does not replace it."""

from __future__ import annotations

import asyncio
import logging

from rescoldo.control.fleet.awake import Awake
from rescoldo.control.fleet.entries import Entries
from rescoldo.control.fleet.entry import Entry
from rescoldo.control.fleet.instances import Instances
from rescoldo.control.fleet.replicas import Replicas
from rescoldo.control.fleet.retirement import Retirement
from rescoldo.control.fleet.routes import Routes
from rescoldo.control.fleet.wakes import Wakes
from rescoldo.model.errors import RescoldoError
from rescoldo.node.protocol import Exit
from rescoldo.policy.respawn import SHORTEST_LIFE, early_deaths, respawn_pause
from rescoldo.tasks import Tasks

log = logging.getLogger(__name__)


class Losses:
    """Saves the requests of a lost instance, and replaces it."""

    def __init__(
        self, entries: Entries, routes: Routes, instances: Instances, replicas: Replicas, retirement: Retirement,
        wakes: Wakes, tasks: Tasks,
    ) -> None:
        self._entries = entries
        self._routes = routes
        self._instances = instances
        self._replicas = replicas
        self._retirement = retirement
        self._wakes = wakes
        self._tasks = tasks

    async def lost(self, exit: Exit) -> None:
        """Handle an instance that crashed for good. Its dead server stays until a replacement has taken over the
        queue."""
        if self._instances.note_end(exit):
            return
        server = self._instances.live.get(exit.instance)
        entry = self._entry(exit)
        if server is None:
            return
        log.warning("%s lost instance %s: %s", exit.function, exit.instance, exit.reason)
        awake = entry.awake if entry is not None else None
        if entry is None or awake is None:
            await self._instances.bury(server)
            return
        del awake.servers[exit.instance]
        if not awake.servers:
            await self._lost_last(entry, awake, exit)
        patience = awake.policy.limits.exec_timeout
        self._tasks.spawn(f"bury {exit.instance}", self._instances.bury(server, patience))
        await self._pause(entry, exit)
        if entry.awake is awake:
            self._replicas.resize(entry)
        elif entry.kept:
            await self._wakes.keep_awake(entry)

    def _entry(self, exit: Exit) -> Entry | None:
        revisions = self._entries.revisions(exit.function)
        return next((one for one in revisions if one.awake and exit.instance in one.awake.servers), None)

    async def _lost_last(self, entry: Entry, awake: Awake, exit: Exit) -> None:
        entry.let_go()
        entry.note(asyncio.get_running_loop().time(), awake.wanted, 0, f"the last instance was lost: {exit.reason}")
        await self._routes.publish(entry)  # from now on requests are held and wake the function
        await self._serve_queue(awake)
        self._retirement.retire_soon(awake)

    async def _serve_queue(self, awake: Awake) -> None:
        """Start an instance for the requests that wait in the slot of a dead one."""
        if (await self._instances.load(awake.slot)).busy:
            try:
                await self._instances.launch(awake, first=True)
            except RescoldoError as error:
                log.warning("%s: cannot start an instance for queued requests: %s", awake.function.id, error.message)

    async def _pause(self, entry: Entry, exit: Exit) -> None:
        """Wait before the replacement, so that an instance that dies whenever it becomes ready is not restarted
        without pause."""
        lived = SHORTEST_LIFE if exit.lived is None else exit.lived
        entry.early_deaths = early_deaths(entry.early_deaths, ready_at=0.0, ended_at=lived)
        await asyncio.sleep(respawn_pause(entry.early_deaths))
