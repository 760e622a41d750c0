"""The supervisor: `python -m rescoldo.supervisor.supervisor SETTINGS_FILE`, started by its guardian.

It starts edge, node and controller, and restarts one that dies or stops answering. When an earlier supervisor was
killed, it takes over that one's children. It does little, so that little can end it, and imports no library beyond
the standard one.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path

from rescoldo.model.errors import RescoldoError
from rescoldo.model.messages import log_to_stderr
from rescoldo.model.settings import Settings
from rescoldo.supervisor import place
from rescoldo.supervisor.children import Children
from rescoldo.supervisor.draining import Draining
from rescoldo.supervisor.folder_watch import FolderWatch
from rescoldo.supervisor.folders import clear
from rescoldo.supervisor.guardian_watch import GuardianWatch
from rescoldo.supervisor.held_descriptors import HeldDescriptors
from rescoldo.supervisor.leftovers import end_instances
from rescoldo.supervisor.parts import GATES
from rescoldo.supervisor.platformlog import say
from rescoldo.tasks import Tasks

log = logging.getLogger(__name__)


class Supervisor:
    """One supervisor's life: startup, wait for a signal while its tasks work, draining, shutdown."""

    def __init__(self, settings: Settings, held: HeldDescriptors) -> None:
        self._settings = settings
        self._held = held
        self._asked = asyncio.Event()  # to stop, after draining
        self._stopping = asyncio.Event()  # from now on, without draining any longer
        self._failure: str | None = None  # why the platform cannot start
        self._tasks = Tasks()
        self._guardian = GuardianWatch(settings, held, self._stopping)
        self._children = Children(settings, held, self._tasks, self._give_up)
        self._folders = FolderWatch(settings, held, self._children)
        self._draining = Draining(settings, held, self._children)
        if self._draining.begun:  # by an earlier supervisor, which was killed meanwhile
            self._asked.set()
        if GATES[0] not in held.table:  # an earlier supervisor was killed while it stopped the platform
            self._stop_now()

    async def run(self) -> int:
        """Supervise until SIGTERM, drain until SIGINT or until no call is left; return the exit status."""
        self._startup()
        await self._asked.wait()
        await self._draining.run(self._stopping)
        self._stopping.set()
        await self._shutdown()
        if self._failure is not None:
            say(f"rescoldo: {self._failure}")
            return os.EX_CONFIG
        return 0

    def _startup(self) -> None:
        loop = asyncio.get_running_loop()
        # before the first beat, after which the guardian passes SIGTERM on
        loop.add_signal_handler(signal.SIGTERM, self._asked.set)
        loop.add_signal_handler(signal.SIGINT, self._stop_now)
        loop.add_signal_handler(signal.SIGHUP, self._children.reload_edge)  # by the controller
        self._guardian.start()
        self._name_lock_holder()
        self._children.adopt()
        self._children.keep()
        if not self._draining.begun:
            self._tasks.spawn("announce", self._announce())
        self._tasks.spawn("keep folders", self._folders.keep())

    async def _shutdown(self) -> None:
        await self._tasks.close()
        await self._children.stop()
        # left by a node that was killed, or that got SIGTERM before it handled the signal
        await asyncio.to_thread(end_instances, self._settings)
        clear(self._settings)
        await self._guardian.stop()
        # when a loop closes, it closes the socket that its signal handlers write to before it removes the handlers
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            asyncio.get_running_loop().remove_signal_handler(number)

    def _name_lock_holder(self) -> None:
        """Write the guardian's pid into the lock file: it may be a new guardian, and `rescoldo down` sends it
        SIGTERM."""
        try:
            place.name_holder(self._held.table["lock"][0], self._held.guardian)
        except OSError as error:
            log.error("cannot write the holder of the lock: %s", error)

    async def _announce(self) -> None:
        """Wait until the platform answers, then say that it is ready."""
        host, _, port = self._settings.metrics.rpartition(":")  # the edge, too, but without TLS
        while not await _answers(host.strip("[]"), int(port)):
            await asyncio.sleep(0.02)
        self._children.proven = True
        say(f"rescoldo: ready at {self._settings.scheme}://{self._settings.gateway}")

    def _give_up(self, reason: str) -> None:
        self._failure = reason
        self._stop_now()

    def _stop_now(self) -> None:
        self._asked.set()
        self._stopping.set()


async def _answers(host: str, port: int) -> bool:
    try:
        reader, writer = await asyncio.open_connection(host, port)
        try:
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return b" 200 " in await reader.readline()
        finally:
            writer.close()
    except OSError:
        return False


async def _run(settings: Settings, held: HeldDescriptors) -> int:
    return await Supervisor(settings, held).run()


def main() -> int:
    """Supervise a platform; its settings come from the guardian, else from the file in the first argument."""
    log_to_stderr("supervisor: %(levelname)s: %(message)s")
    try:
        held = HeldDescriptors.inherited()
        return asyncio.run(_run(held.settings() or Settings.load(Path(sys.argv[1])), held))
    except (RescoldoError, OSError) as error:  # perhaps temporary: the guardian tries again
        say(f"supervisor: {error}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
