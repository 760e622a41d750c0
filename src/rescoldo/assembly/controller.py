"""The controller process, put together: `python -m rescoldo.assembly.controller SETTINGS_FILE`.

The supervisor hands over the listening sockets of wake, api and log, so that what arrives while no
controller runs waits in their backlogs for the next one.
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
from pathlib import Path

import uvloop

from rescoldo.api.app import create_app
from rescoldo.api.credentials import Credentials, load_or_create, load_or_create_payload_secret, restore
from rescoldo.api.server import serve
from rescoldo.bundle.storage import BundleStorage
from rescoldo.control.controller import Controller
from rescoldo.control.fleet.adoption import Adoption
from rescoldo.control.fleet.fleet import Fleet
from rescoldo.control.fleet.growth import Growth
from rescoldo.control.fleet.scaler import Scaler
from rescoldo.control.fleet.sleeper import Sleeper
from rescoldo.control.fleet.slots import SlotPool
from rescoldo.control.fleet.waker import MAX_LINE, Waker
from rescoldo.control.observe.failure_reports import FailureReports
from rescoldo.control.observe.recorder import Recorder
from rescoldo.control.renewal import Renewal
from rescoldo.edge.accesslog import Tally, read_calls
from rescoldo.edge.config import port_slot_names, slot_count, slot_names
from rescoldo.edge.haproxy import HaproxyEdge
from rescoldo.handover import inherited
from rescoldo.isolation import heap
from rescoldo.isolation.identity import level
from rescoldo.model.access import login_key
from rescoldo.model.errors import InvalidInput, RescoldoError, StoreError, StoreLocked
from rescoldo.model.messages import log_to_stderr
from rescoldo.model.settings import Settings
from rescoldo.node.client import NodeClient
from rescoldo.node.protocol import Exit
from rescoldo.store.secretfiles import SecretFiles
from rescoldo.store.sqlite.keeper import is_empty
from rescoldo.store.sqlite.store import SqliteStore
from rescoldo.tasks import Tasks

SWITCH_SECONDS = 0.001  # a thread that writes metrics or reads rows holds wakes up for no longer at a time
KEEP_SECONDS = 1.0  # between looks whether the credentials are there
LAST_CALLS_SECONDS = 6.0  # the edge may take 5 to finish what is in flight; then its last lines are read

log = logging.getLogger(__name__)


async def run(settings: Settings) -> None:
    """Serve until SIGTERM."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    starting = asyncio.current_task()
    assert starting is not None

    def end() -> None:
        stop.set()
        if not serving:  # it may wait for an edge or a node that does not come
            starting.cancel()

    serving = False
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    credentials = load_or_create(settings.secrets) if settings.basic_auth else None
    payload_secret = load_or_create_payload_secret(settings.secrets)
    storage = BundleStorage(settings.bundles, settings.uploads, own_gids=os.geteuid() == 0)
    await storage.prepare()
    known = bool(storage.digests()) and is_empty(settings.database)
    store = await SqliteStore.open(settings.database, copy=settings.store_copy)
    tasks = Tasks()
    login = None if credentials is None else login_key(credentials.user, credentials.password)
    node, edge = NodeClient(settings), HaproxyEdge(settings, login)
    count = slot_count(settings)
    slots = SlotPool(slot_names(count), port_slot_names(count), on_scarce=lambda: growth.start())
    fleet = Fleet(node, edge, store, slots, tasks, storage.group)
    growth = Growth(settings, fleet, slots)
    renewal = Renewal(settings, growth.renew)
    sleeper = Sleeper(fleet, edge, tasks)
    recorder = Recorder(store, sleeper.saw_calls, fleet.entries.__contains__)
    failures = FailureReports(node, fleet.entries.__contains__)
    scaler = Scaler(fleet, edge, node)
    waker = Waker(fleet, settings.max_holds, settings.max_holds_per_function, scaler.full)
    secrets = SecretFiles(settings.function_secrets)
    controller = Controller(settings, store, secrets, storage, node, fleet, recorder, waker, tasks, renewal)
    adoption = Adoption(fleet, node, edge, slots, tasks)

    async def synchronise_edge() -> None:
        await adoption.synchronise()
        growth.finish()

    def note_calls(told: Tally) -> None:
        recorder.record(told.calls)
        recorder.record_cold(told.colds)
        failures.add(told.failed)

    def edge_restarted() -> None:
        tasks.spawn("synchronise edge", synchronise_edge())

    def instance_lost(exit: Exit) -> None:
        tasks.spawn(f"lost {exit.instance}", fleet.lost(exit))

    def node_restarted() -> None:
        tasks.spawn("check instances", adoption.check_instances())

    if known and not store.condition.rewritten:
        controller.tell_loss()
    await controller.load()
    reading = Tasks()
    accepting = tasks.spawn("access log", accept_calls(inherited("log"), note_calls, reading, edge.look))
    await adoption.adopt()
    watching = tasks.spawn("watch edge", edge.watch(edge_restarted))
    tasks.spawn("watch node", node.watch(instance_lost, node_restarted))
    tasks.spawn("sleeper", sleeper.run())
    tasks.spawn("scaler", scaler.run())
    tasks.spawn("recorder", recorder.run())
    tasks.spawn("failed calls", failures.run())
    if settings.tls_cert is not None:
        tasks.spawn("renewal", renewal.run())
    tasks.spawn("credentials", keep_credentials(settings.secrets, credentials, payload_secret))
    await controller.keep_numbers()
    wakes = await asyncio.start_unix_server(waker.serve, sock=inherited("wake"), limit=MAX_LINE)
    gc.collect()
    gc.freeze()
    log.info("ready: %d functions", len(fleet.entries))
    serving = True
    try:
        await serve(create_app(controller, settings, credentials, payload_secret), inherited("api"), stop)
    finally:
        # The edge ends when its last client has left, but not while it is watched. Until then those it holds
        # are answered, and what it tells is counted.
        watching.cancel()
        accepting.cancel()
        waker.stop()
        await reading.finish(LAST_CALLS_SECONDS)
        wakes.close()
        await tasks.close()
        await recorder.flush()
        await store.close()


async def keep_credentials(folder: Path, credentials: Credentials | None, payload_secret: bytes) -> None:
    """Write the files again when somebody removes them: the next controller would make others."""
    failing = False
    while True:
        await asyncio.sleep(KEEP_SECONDS)
        try:
            if restore(folder, credentials, payload_secret):
                log.warning("the gateway's credentials were removed from %s and are written again", folder)
            failing = False
        except StoreError as error:
            if not failing:
                log.error("%s", error.message)
            failing = True


async def accept_calls(
    listener: socket.socket, note_calls: Callable[[Tally], None], reading: Tasks, on_process: Callable[[], None]
) -> None:
    """Read what the edge tells of ended calls: one connection for each HAProxy process."""
    loop = asyncio.get_running_loop()
    while True:
        connection, _ = await loop.sock_accept(listener)
        on_process()
        reading.spawn("calls", read_calls(connection, note_calls))


def main() -> int:
    heap.settle()
    log_to_stderr("%(levelname)s %(name)s: %(message)s")
    settings = Settings.load(Path(sys.argv[1]))
    sys.setswitchinterval(SWITCH_SECONDS)
    level()  # it forks to find out: now, before there are threads
    try:
        uvloop.run(run(settings))
    except StoreLocked as error:  # its holder will let go; the next attempt waits for it again
        log.error("%s", error.message)
        return os.EX_TEMPFAIL
    except (StoreError, InvalidInput) as error:
        log.error("%s", error.message)
        return os.EX_CONFIG  # starting again would not help; the supervisor gives up
    except RescoldoError as error:
        log.error("%s", error.message)
        return 1
    except asyncio.CancelledError:
        return 0  # ended before it served
    return 0


if __name__ == "__main__":
    sys.exit(main())
