"""The supervisor: `python -m rescoldo.supervisor.main SETTINGS_FILE`, or `rescoldo serve`.

It starts edge, node and controller, owns the sockets between them, and starts again what dies. It does
little, so that there is little that could end it; it imports no library beyond the standard one.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from rescoldo.edge import config, process
from rescoldo.isolation.identity import level
from rescoldo.isolation.syscalls import become_subreaper
from rescoldo.model.errors import InvalidInput, RescoldoError
from rescoldo.model.settings import Settings
from rescoldo.supervisor import place
from rescoldo.supervisor.child import STABLE_SECONDS, Child, Program, describe_end, pause
from rescoldo.supervisor.sockets import bind, bind_address, edge_environment, handed_over

log = logging.getLogger(__name__)

EDGE_GRACE = 5.0  # seconds for requests in flight when the platform stops
CONTROLLER_GRACE = 10.0
NODE_GRACE = 15.0
READY_SECONDS = 60.0
UNLIVELY = 5  # early deaths in a row before the first readiness that end the start


class Supervisor:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._haproxy = process.binary()
        self._children: dict[str, Child] = {}
        self._leaving: set[Child] = set()  # an old edge, finishing its requests after a reload
        self._stopping = asyncio.Event()
        self._ready = False
        self._fatal: str | None = None
        run = settings.settings_file
        wake, api, calls = (
            bind(path, for_edge=True) for path in (settings.wake_socket, settings.api_socket, settings.log_socket)
        )
        node = bind(settings.node_socket, for_edge=False)
        self._gates = bind_address(settings.gateway), bind_address(settings.metrics)
        edge = {**process.environment(self._haproxy), **edge_environment(*self._gates)}
        owned = {"wake": wake, "api": api, "log": calls}
        self._programs = (
            Program("edge", self._edge_command, edge, self._gates, _worth_showing),
            Program(
                "node", lambda: _python("rescoldo.node.main", run), {"RESCOLDO_LISTEN_FD": str(node.fileno())}, (node,)
            ),
            Program(
                "controller", lambda: _python("rescoldo.supervisor.controller", run), handed_over(owned),
                tuple(owned.values()),
            ),
        )

    async def run(self) -> int:
        """Supervise until SIGTERM or SIGINT; return the exit status."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        loop.add_signal_handler(signal.SIGCHLD, self._reap_orphans)
        become_subreaper()
        keepers = [asyncio.create_task(self._keep(program), name=program.name) for program in self._programs]
        announce = asyncio.create_task(self._announce(), name="announce")
        await self._stopping.wait()
        announce.cancel()
        for keeper in keepers:
            keeper.cancel()
        await asyncio.gather(*keepers, announce, return_exceptions=True)
        await self._stop_children()
        # closing the loop closes what its signal handlers write to before it takes them away
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            loop.remove_signal_handler(number)
        if self._fatal is not None:
            print(f"rescoldo: {self._fatal}", file=sys.stderr, flush=True)
            return os.EX_CONFIG
        return 0

    async def _keep(self, program: Program) -> None:
        """Start a program, and again whenever it dies."""
        loop = asyncio.get_running_loop()
        deaths = 0
        while True:
            started = loop.time()
            child = self._children[program.name] = Child.start(program)
            self._note_children()
            while not child.ended.is_set():
                await child.ended.wait()
                # after a reload another process is the edge
                if (current := self._children[program.name]) is not child:
                    child = current
            deaths = deaths + 1 if loop.time() - started < STABLE_SECONDS else 1
            status = child.process.returncode
            log.warning("%s ended (%s)", program.name, describe_end(status))
            if status == os.EX_CONFIG or (not self._ready and deaths >= UNLIVELY):
                self._fatal = "\n".join([f"{program.name} cannot start:", *child.tail])
                self._stopping.set()
                return
            log.info("%s is started again", program.name)
            await asyncio.sleep(pause(deaths))

    def _edge_command(self) -> Sequence[str]:
        """A new edge knows nothing yet and holds every request until the controller has told it."""
        return process.command(self._haproxy, config.write(self._settings, config.slot_count(self._settings)))

    def _reload(self) -> None:
        """The controller has written a configuration with more slots."""
        old = self._children["edge"]
        path = self._settings.edge / "haproxy.cfg"
        command = process.reload_command(self._haproxy, path, self._settings, old.pid)
        self._leaving.add(old)
        self._children["edge"] = Child.start(self._programs[0], command)
        self._note_children()

    async def _announce(self) -> None:
        """Say that the platform is there, once it answers."""
        host, _, port = self._settings.gateway.rpartition(":")
        async with asyncio.timeout(READY_SECONDS):
            while not await _answers(host.strip("[]"), int(port)):
                await asyncio.sleep(0.02)
        self._ready = True
        print(f"rescoldo: ready at http://{self._settings.gateway}", file=sys.stderr, flush=True)

    async def _stop_children(self) -> None:
        """Edge and controller together: the edge takes no more and finishes what it has, the controller lets
        go of it and takes its last lines. The node last, as it holds the instances."""
        for gate in self._gates:  # else who connects now would wait for an edge that does not come
            gate.close()
        first = [
            self._children[name].stop(number, grace)
            for name, number, grace in (
                ("edge", signal.SIGUSR1, EDGE_GRACE),
                ("controller", signal.SIGTERM, CONTROLLER_GRACE),
            )
            if name in self._children
        ]
        await asyncio.gather(*first, *(child.stop(signal.SIGTERM, 1.0) for child in self._leaving))
        if "node" in self._children:
            await self._children["node"].stop(signal.SIGTERM, NODE_GRACE)
        place.clear(self._settings)

    def _note_children(self) -> None:
        pids = {"supervisor": os.getpid(), **{name: child.pid for name, child in self._children.items()}}
        self._settings.children_file.write_text(json.dumps(pids))

    def _reap_orphans(self) -> None:
        """Instances whose node was killed become our children; our own are reaped by their keepers."""
        own = {child.pid for child in [*self._children.values(), *self._leaving]}
        for pid in _zombies():
            if pid not in own:
                os.waitpid(pid, os.WNOHANG)
        self._leaving = {child for child in self._leaving if not child.ended.is_set()}


def _zombies() -> list[int]:
    """Ended children nobody has waited for."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [
        int(pid)
        for pid in children
        if os.waitid(os.P_PID, int(pid), os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    ]


def _python(module: str, settings: Path) -> list[str]:
    return [sys.executable, "-m", module, str(settings)]


def _worth_showing(line: str) -> bool:
    """HAProxy tells of each server that comes and goes; what matters are its errors."""
    return "[ALERT]" in line and "has no server available" not in line


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


def run(settings: Settings) -> int:
    """Serve in the foreground; return the exit status. Raises RescoldoError when it cannot be started."""
    logging.basicConfig(level=logging.INFO, format="supervisor: %(levelname)s: %(message)s")
    if os.geteuid() == 0 and level() != "full":
        raise InvalidInput(
            "root may not make namespaces here (or Linux is older than 5.12), and functions never run as root: start "
            "it as another user"
        )
    lock = place.prepare(settings)
    try:
        place.check_address(settings.gateway, "--gateway-address")
        place.check_address(settings.metrics, "--metrics-address")
        path = config.write(settings, config.slot_count(settings))
        process.check(process.binary(), path)
        return asyncio.run(_run(settings))
    finally:
        lock.close()


async def _run(settings: Settings) -> int:
    return await Supervisor(settings).run()


def main() -> int:
    try:
        return run(Settings.load(Path(sys.argv[1])))
    except RescoldoError as error:
        print(f"rescoldo: {error.message}", file=sys.stderr, flush=True)
        return os.EX_CONFIG


if __name__ == "__main__":
    sys.exit(main())
