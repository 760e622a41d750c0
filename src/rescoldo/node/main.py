"""The node process: `python -m rescoldo.node.main SETTINGS_FILE`.

The supervisor may pass it a listening socket, as the descriptor named in RESCOLDO_LISTEN_FD, so that clients can
wait in its backlog while one node replaces another. SIGTERM stops every instance and ends the node. When the node
is killed instead, its instances live on and its successor adopts them.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from rescoldo.isolation import heap
from rescoldo.isolation.forks import counted
from rescoldo.isolation.identity import priority_can_rise
from rescoldo.isolation.level import level
from rescoldo.isolation.syscalls import become_subreaper, set_process_name
from rescoldo.model.messages import log_to_stderr
from rescoldo.model.settings import Settings
from rescoldo.node.instances.folders import keep_whole, make_folders
from rescoldo.node.instances.left_ports import report_left
from rescoldo.node.instances.stopped import end_stopped
from rescoldo.node.instances.strays import end_unnoted
from rescoldo.node.parts import put_together
from rescoldo.node.server import Server

LISTEN_VARIABLE = "RESCOLDO_LISTEN_FD"
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
    become_subreaper()  # a dead zygote's forks become children of the node, which reaps them
    _look_at_rights()
    make_folders(settings)
    listener = _listener(settings)

    async def run() -> None:
        await NodeProcess(settings).run(listener)

    asyncio.run(run())
    return 0


def _look_at_rights() -> None:
    """Find out what this process may do, which takes forks: now, before there is an event loop."""
    if level() == "unprivileged" and not counted():
        _LOG.warning("seccomp cannot ask for forks here: an instance with too many processes is noticed by polling")
    if level() == "full" and not priority_can_rise():
        _LOG.warning("root has no CAP_SYS_NICE here: spares have the priority of calls while they are made")


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


class NodeProcess:
    """Runs the node from its start to its end. Needs a running event loop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._asked_to_end = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._asked_to_end.set)
        self._parts = put_together(settings)
        loop.add_signal_handler(signal.SIGCHLD, self._parts.ends.reap)
        self._server = Server(self._parts)

    async def run(self, listener: socket.socket) -> None:
        """Serve on `listener` until a signal requests the end, or until a background task ends unexpectedly: the
        node then ends in order, and the supervisor starts another."""
        await self._adopt()
        loops = self._begin()
        await self._server.open(listener)
        await asyncio.wait(loops, return_when=asyncio.FIRST_COMPLETED)
        await self._end(loops)

    async def _adopt(self) -> None:
        settings, parts = self._settings, self._parts
        if not settings.instance_state.is_dir():  # no node ran before, or its notes are lost
            await end_unnoted(settings, parts.sandboxes)
            settings.instance_state.mkdir()
        await parts.adoption.adopt()

    def _begin(self) -> list[asyncio.Task[Any]]:
        """Begin the tasks that run for as long as the node does."""
        parts, spawn = self._parts, self._parts.tasks.spawn
        roster, zygotes, losses = parts.roster, parts.zygotes, parts.losses
        zygotes.open(roster.sandboxes)
        whole = keep_whole(self._settings, parts.sandboxes, losses.mend, zygotes.renew)
        watches = [] if parts.memory is None else [spawn("memory", parts.memory.run())]
        return [
            *watches,
            spawn("wait for a signal", self._asked_to_end.wait()),
            spawn("zygotes", zygotes.failed.wait()),
            spawn("stopped processes", end_stopped(lambda: [*roster.processes(), *zygotes.processes()])),
            spawn("run folder", whole),
            spawn("listening sockets", parts.listeners.watch()),
            spawn("ports of programs", report_left(roster.at_shared_ports, losses.left_port)),
        ]

    async def _end(self, loops: list[asyncio.Task[Any]]) -> None:
        parts = self._parts
        await self._server.close()
        await parts.stops.stop_all()
        for task in loops:
            task.cancel()
        await parts.zygotes.close()
        await parts.tasks.close()
        parts.listeners.close()
        if parts.forks is not None:
            parts.forks.close()
        parts.sandboxes.close()
        parts.logs.close()
        # Closing the loop closes the socket that its signal handlers write to before it removes them.
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            asyncio.get_running_loop().remove_signal_handler(number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
