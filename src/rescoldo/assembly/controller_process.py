"""The controller's process, from its start to its end; `assembly/controller.py` is its main program.

The supervisor hands over the listening sockets of wake, api and log. So while no controller runs, connections wait
in the sockets' backlogs for the next one.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import uvloop

from rescoldo.api.app import create_app
from rescoldo.api.credentials import Credentials, load_or_create, load_or_create_payload_secret, restore
from rescoldo.api.lookup import LookUp
from rescoldo.api.server import serve
from rescoldo.assembly.backing import Backing, own_backing
from rescoldo.assembly.parts import Ports, assemble
from rescoldo.assembly.processes import SupervisedProcesses
from rescoldo.assembly.reload import EdgeReload
from rescoldo.bundle.storage import BundleStorage
from rescoldo.control.controller import Controller
from rescoldo.control.fleet.waker import MAX_LINE
from rescoldo.edge import certificate
from rescoldo.edge.accesslog import Tally, read_calls
from rescoldo.edge.config import slot_count
from rescoldo.edge.haproxy import HaproxyEdge
from rescoldo.handover import inherited
from rescoldo.link.membership import Membership
from rescoldo.model.access import login_key
from rescoldo.model.errors import InvalidInput, RescoldoError, StoreError, StoreLocked
from rescoldo.model.names import FunctionId
from rescoldo.model.settings import Settings
from rescoldo.node.client import NodeClient
from rescoldo.tasks import Tasks

SWITCH_SECONDS = 0.001  # a thread that writes metrics or reads rows delays wakes by at most this at a time
KEEP_SECONDS = 1.0  # between checks of the credentials' files
LAST_CALLS_SECONDS = 6.0  # the edge may take 5 to finish its requests; then its last lines are read

log = logging.getLogger(__name__)


class Process:
    """Runs the controller's process from start to end."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stop = asyncio.Event()
        self._serving = False

    async def run(self) -> None:
        """Serve until SIGTERM."""
        self._catch_signals()
        settings = self._settings
        credentials = load_or_create(settings.secrets) if settings.basic_auth else None
        payload_secret = load_or_create_payload_secret(settings.secrets)
        # a worker fetches its bundles again
        alone = settings.join is None
        bundles = BundleStorage(settings.bundles, settings.uploads, own_gids=os.geteuid() == 0, durable=alone)
        await bundles.prepare()
        backing = await _open_backing(settings, bundles)
        edge = HaproxyEdge(settings, None if credentials is None else login_key(credentials.user, credentials.password))
        controller, platform = assemble(settings, self._ports(edge, backing, bundles))
        if backing.lost:
            controller.problems.tell_loss()
        await controller.load()
        calls = Tasks()
        accept = accept_calls(inherited("log"), controller.note_calls, calls, edge.look)
        accepting = controller.tasks.spawn("access log", accept)
        await controller.begin()
        for name, loop in backing.loops.items():
            controller.tasks.spawn(name, loop())
        controller.tasks.spawn("credentials", keep_credentials(settings.secrets, credentials, payload_secret))
        wakes = await asyncio.start_unix_server(controller.waker.serve, sock=inherited("wake"), limit=MAX_LINE)
        gc.collect()
        gc.freeze()
        log.info("ready: %d functions", len(controller.fleet.entries))
        self._serving = True
        try:
            first = [] if backing.membership is None else [_look_up(controller, backing.membership)]
            app = create_app(platform, settings, credentials, payload_secret, first)
            await serve(app, inherited("api"), self._stop)
        finally:
            accepting.cancel()
            controller.stop_waking()
            await calls.finish(LAST_CALLS_SECONDS)  # the edge's last lines are counted
            wakes.close()
            await controller.end()
            await backing.close()

    def _ports(self, edge: HaproxyEdge, backing: Backing, bundles: BundleStorage) -> Ports:
        settings = self._settings
        return Ports(
            node=NodeClient(settings),  # the node of every kind: NodesByKind puts several together
            edge=edge,
            store=backing.store,
            secrets=backing.secrets,
            bundles=bundles,
            processes=SupervisedProcesses(settings),
            reload=EdgeReload(settings),
            slots=slot_count(settings),
            elsewhere=backing.elsewhere,
            membership=backing.membership,
            renew_certificate=partial(certificate.renew, settings) if settings.certificate_files else None,
        )

    def _catch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        starting = asyncio.current_task()
        assert starting is not None

        def end() -> None:
            self._stop.set()
            if not self._serving:  # it may wait for an edge or a node that never starts
                starting.cancel()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, end)


def _look_up(controller: Controller, membership: Membership) -> partial[LookUp]:
    """What control asks a worker about may have been deployed a moment ago."""

    async def look_up(function: FunctionId) -> None:
        membership.ask_anew(function)
        await controller.reconciler.look_up(function)

    return partial(LookUp, look_up=look_up)


async def _open_backing(settings: Settings, bundles: BundleStorage) -> Backing:
    if settings.join is None:
        return await own_backing(settings, bundles)
    from rescoldo.assembly.joined import join  # its HTTP client would cost every other start 70 ms

    return join(settings, settings.join, bundles)


async def keep_credentials(folder: Path, credentials: Credentials | None, payload_secret: bytes) -> None:
    """Write the credentials' files again when they are gone; otherwise the next controller would make others."""
    failing = False
    while True:
        await asyncio.sleep(KEEP_SECONDS)
        try:
            if restore(folder, credentials, payload_secret):
                log.warning("the gateway's credentials were missing from %s; wrote them again", folder)
            failing = False
        except StoreError as error:
            if not failing:
                log.error("%s", error.message)
            failing = True


async def accept_calls(
    listener: socket.socket, note_calls: Callable[[Tally], None], reading: Tasks, on_process: Callable[[], None]
) -> None:
    """Read the edge's log of ended calls: one connection for each HAProxy process."""
    loop = asyncio.get_running_loop()
    while True:
        connection, _ = await loop.sock_accept(listener)
        on_process()
        reading.spawn("calls", read_calls(connection, note_calls))


def run(settings: Settings) -> int:
    """Run the controller; return the exit status, from which the supervisor sees whether a restart can help."""
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        uvloop.run(Process(settings).run())
    except StoreLocked as error:  # another process still holds it; the supervisor's next attempt waits again
        log.error("%s", error.message)
        return os.EX_TEMPFAIL
    except (StoreError, InvalidInput) as error:
        log.error("%s", error.message)
        return os.EX_CONFIG  # a restart would not help: the supervisor gives up, unless all has run before
    except RescoldoError as error:
        log.error("%s", error.message)
        return 1
    except asyncio.CancelledError:
        return 0  # a signal came before it served
    return 0
