"""The node process: `python -m rescoldo.node.main SETTINGS_FILE`.

The supervisor may hand it a listening socket as the descriptor named in RESCOLDO_LISTEN_FD, so that
clients can wait in its backlog while one node replaces another. SIGTERM stops every instance and ends it;
when it is killed instead, its instances go on and its successor adopts them.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import platform as machine
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from rescoldo.isolation import heap, landlock, seccomp
from rescoldo.isolation.identity import level
from rescoldo.isolation.syscalls import become_subreaper, set_process_name
from rescoldo.model.messages import log_to_stderr
from rescoldo.model.settings import Settings
from rescoldo.node.disk import BundlesOnDisk, SecretsOnDisk
from rescoldo.node.instances.boot import Boot
from rescoldo.node.instances.folders import keep_whole, make_folders
from rescoldo.node.instances.processes import Ends
from rescoldo.node.instances.roster import Roster
from rescoldo.node.instances.sandboxes import Sandboxes
from rescoldo.node.instances.stopped import end_stopped
from rescoldo.node.instances.strays import end_unnoted
from rescoldo.node.output.logs import LogBook
from rescoldo.node.protocol import NodeDescription
from rescoldo.node.server import Exits, Server
from rescoldo.node.sockets.fence import FENCED, gate_address, put_up
from rescoldo.node.sockets.gateway import GatewayAccess, access
from rescoldo.node.sockets.ports import tell_left
from rescoldo.node.zygotes.zygotes import RUN, Zygotes

LISTEN_VARIABLE = "RESCOLDO_LISTEN_FD"
RUN_VARIABLE = "RESCOLDO_RUN"  # module:function that is an instance's program; for tests
_LOG = logging.getLogger(__name__)


def main(arguments: list[str]) -> int:
    """Run the node until SIGTERM or SIGINT; return its exit status."""
    if len(arguments) != 1:
        print("usage: python -m rescoldo.node.main SETTINGS_FILE", file=sys.stderr)
        return 2
    heap.settle()
    log_to_stderr("node: %(levelname)s: %(message)s")
    settings = Settings.load(Path(arguments[0]))
    os.umask(0o077)
    set_process_name("rescoldo-node")
    become_subreaper()
    level()  # it forks to find out: now, before there is an event loop
    make_folders(settings)
    asyncio.run(_run(settings, _listener(settings)))
    return 0


def _listener(settings: Settings) -> socket.socket:
    handed = os.environ.pop(LISTEN_VARIABLE, "")
    if handed:
        listener = socket.socket(fileno=int(handed))
        os.set_inheritable(listener.fileno(), False)
        return listener
    settings.node_socket.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(settings.node_socket))
    settings.node_socket.chmod(0o600)
    listener.listen(128)
    return listener


def _isolation(sandboxes: Sandboxes, gateway: GatewayAccess | None, *, fenced: bool) -> dict[str, str]:
    return {
        "level": level(),
        "limits": f"cgroup v{sandboxes.base.version}" if sandboxes.base else "none",
        "system_calls": "filtered" if seccomp.available() else "all",
        "ports": "private" if fenced else "shared",
        "landlock": f"ABI {landlock.abi()}" if landlock.abi() else "none",
        "gateway": str(gateway or "not shown to functions"),
    }


def _description(settings: Settings, isolation: Mapping[str, str], roster: Roster, *, fenced: bool) -> NodeDescription:
    address = f"unix@{settings.instances}/{{instance}}.sock"
    return NodeDescription(machine.machine(), machine.system(), isolation, fenced, roster.most, address)


async def _run(settings: Settings, listener: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    asked_to_end = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked_to_end.set)
    ends, exits, logs = Ends(), Exits(), LogBook(settings.logs)
    loop.add_signal_handler(signal.SIGCHLD, ends.reap)
    sandboxes = Sandboxes.open(settings)
    # Only the supervisor's fence has a gate; one put up here lasts as long as this process.
    gate = gate_address(settings) if FENCED in os.environ else None
    fenced = gate is not None or put_up(settings) is not None
    gateway = access(settings, gate)
    nurseries = Zygotes(settings, sandboxes, ends, gateway, os.environ.pop(RUN_VARIABLE, RUN))
    bundles = BundlesOnDisk(settings.bundles, own_gids=os.geteuid() == 0)
    boot = Boot(nurseries, ends, sandboxes, bundles, SecretsOnDisk(settings.function_secrets))
    isolation = _isolation(sandboxes, gateway, fenced=fenced)
    settings.isolation_file.write_text(json.dumps(isolation))
    if not settings.instance_state.is_dir():  # there was no node before us, or its notes are lost
        await end_unnoted(settings, sandboxes)
        settings.instance_state.mkdir()
    roster = Roster(settings, boot, sandboxes, logs, exits.tell, fenced=fenced)
    await roster.adopt()
    nurseries.open(roster.sandboxes)
    failed = asyncio.create_task(nurseries.failed.wait(), name="nurseries")
    watch = asyncio.create_task(
        end_stopped(lambda: [*roster.processes(), *nurseries.processes()]), name="stopped ones"
    )
    whole = keep_whole(settings, sandboxes, roster, json.dumps(isolation), nurseries.renew)
    mending = asyncio.create_task(whole, name="run folder")
    looks = asyncio.create_task(roster.listeners.look_again_and_again(), name="listening sockets")
    ports = asyncio.create_task(tell_left(roster.at_ports, roster.left_port), name="ports of programs")
    end = asyncio.create_task(asked_to_end.wait(), name="wait for SIGTERM")
    description = _description(settings, isolation, roster, fenced=fenced)
    server = Server(description, roster, logs, exits, lambda: nurseries.pool)
    await server.open(listener)
    # A task that ends has failed for a reason we do not know: end too, and be started anew.
    parts = (failed, watch, mending, looks, ports, end)
    await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
    await server.close()
    await roster.stop_all()
    for task in parts:
        task.cancel()
    await nurseries.close()
    roster.listeners.close()
    sandboxes.close()
    logs.flush()
    # closing the loop closes what its signal handlers write to before it takes them away
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
        loop.remove_signal_handler(number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
