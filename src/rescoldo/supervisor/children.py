"""Keeps the supervisor's children (edge, node, controller) running, replaces silent ones, reloads the edge and stops
all of them."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
from collections.abc import Callable, Mapping, Sequence

from rescoldo.durable import replace_text
from rescoldo.model.settings import Settings
from rescoldo.supervisor.child import Child, Part, describe_end
from rescoldo.supervisor.guardian import DRAINING, LASTING, STABLE_SECONDS, pause
from rescoldo.supervisor.held_descriptors import HeldDescriptors
from rescoldo.supervisor.leftovers import end_strays
from rescoldo.supervisor.parts import (
    CONTROLLER_GRACE,
    EDGE_GRACE,
    GATES,
    NODE_GRACE,
    SocketTable,
    edge_reload,
    parts_with,
)
from rescoldo.supervisor.probes import PAUSE, Probe
from rescoldo.tasks import Tasks, set_within

log = logging.getLogger(__name__)

READY_SECONDS = 60.0
UNLIVELY = 5  # early deaths in a row that end the start of a platform that was never ready
LEAVING_GRACE = 1.0  # seconds for an edge that a reload replaced to finish its requests when the platform stops


class Children:
    """One child of each part, and old edges that finish their requests after a reload.

    The guardian holds descriptors of each child from its start to its end, so that the next supervisor can adopt it.
    """

    def __init__(
        self,
        settings: Settings,
        held: HeldDescriptors,
        tasks: Tasks,
        give_up: Callable[[str], None],
        parts: Callable[[Settings, SocketTable], dict[str, Part]] = parts_with,
    ) -> None:
        """The caller closes `tasks` before `stop`; `give_up(reason)` ends a platform that cannot start."""
        self._settings = settings
        self._held = held
        self._tasks = tasks
        self._give_up = give_up
        self._parts_with = parts
        self._parts = parts(settings, held.table)
        self._children: dict[str, Child] = {}  # by part
        self._leaving: set[Child] = set()
        self._keeping: dict[str, asyncio.Task[None]] = {}  # by part
        self.proven = False  # the platform was ready once: from then on a child is restarted however often it dies
        self.reachable = True  # False while the run folder is lost: no probe can reach the children

    @property
    def current(self) -> Mapping[str, Child]:
        """The child of each part, running or just ended."""
        return self._children

    @property
    def leaving(self) -> bool:
        """Whether an edge that a reload replaced still finishes its requests."""
        return bool(self._leaving)

    def adopt(self) -> None:
        """Take over the children of an earlier supervisor; kill any that it could not register with the guardian."""
        for name, numbers in list(self._held.table.items()):
            part, lasting, pid = name.partition(LASTING)
            if not lasting:
                continue
            child = Child.adopt(self._parts[part], int(pid), *numbers)
            if (older := self._children.get(part)) is not None:
                self._leaving.add(older)  # a reload starts the new edge beside the old one
            self._register(child)
        self.proven = bool(self._children)
        known = {child.pid for child in (*self._children.values(), *self._leaving)}
        end_strays(self._settings, self._held.guardian, known)
        self.note()

    def keep(self) -> None:
        """Keep one child of each part running; replace one that stops answering."""
        for name, part in reversed(self._parts.items()):  # the controller first: it takes longest to be ready
            self._keep_running_anew(name)
            if part.probe is not None:
                self._tasks.spawn(f"probe {name}", self._kill_when_silent(name, part.probe))

    def reload_edge(self) -> None:
        """Start an edge with the configuration that the controller has just written, which has more slots."""
        self.replace_edge(edge_reload(self._settings, self._children["edge"].pid))

    def replace_edge(self, command: Sequence[str] | None = None) -> None:
        """Start the next edge; the present one finishes its requests and ends.

        `command` is that of a reload. Without it the next edge takes over nothing but the inherited listeners.
        """
        old = self._children["edge"]
        self._leaving.add(old)
        try:
            self._start("edge", command or [*self._parts["edge"].command(), "-sf", str(old.pid)])
        except OSError as error:
            self._leaving.discard(old)
            log.error("cannot reload the edge: %s", error)
            return
        self._keep_running_anew("edge")

    def listen_on(self, sockets: Mapping[str, socket.socket]) -> None:
        """Replace listening sockets by name; children accept on the new ones from their next start on."""
        for name, sock in sockets.items():
            (before,) = self._held.table[name]
            self._held.keep(name, sock.detach())
            os.close(before)
        self.renew_parts()
        self.note()

    def renew_parts(self) -> None:
        """Have the next start of each child use the present table of descriptors."""
        self._parts = self._parts_with(self._settings, self._held.table)

    def note(self) -> None:
        """Write the list of processes, for `rescoldo status` and for people."""
        pids = {"guardian": self._held.guardian, "supervisor": os.getpid()}
        pids |= {name: self._children[name].pid for name in self._parts if name in self._children}
        pids |= {f"{child.part.name} {child.pid}, leaving": child.pid for child in self._leaving}
        try:
            self._settings.pid_file.write_text(str(os.getpid()))
            replace_text(self._settings.children_file, json.dumps(pids))
        except OSError as error:
            log.error("cannot write the list of processes to %s: %s", self._settings.children_file, error)

    async def stop(self) -> None:
        """Stop edge and controller together, then the node, which holds the instances.

        The edge accepts no more requests and finishes those in flight; the controller lets go of the edge and takes
        its last log lines.
        """
        # left open, the gates would queue connections that no edge will serve
        for name in (*GATES, DRAINING):
            for number in self._held.table.get(name, ()):
                os.close(number)
            self._held.drop(name)
        await asyncio.gather(
            self._stop("edge", signal.SIGUSR1, EDGE_GRACE),
            self._stop("controller", signal.SIGTERM, CONTROLLER_GRACE),
            *(child.stop(signal.SIGTERM, LEAVING_GRACE) for child in self._leaving),
        )
        await self._stop("node", signal.SIGTERM, NODE_GRACE)

    # -- one child

    def _start(self, name: str, command: Sequence[str] | None = None) -> Child:
        """Raises OSError."""
        if not self._settings.settings_file.exists():  # a child must not make it again: `FolderWatch` does
            raise FileNotFoundError(f"the run folder {self._settings.run} is missing")
        child = Child.start(self._parts[name], command)
        self._held.keep(_held_name(child), child.pidfd, child.output)
        self._register(child)
        self.note()
        return child

    def _register(self, child: Child) -> None:
        self._children[child.part.name] = child
        child.on_end = self._unregister

    def _unregister(self, child: Child) -> None:
        self._held.drop(_held_name(child))
        if child in self._leaving:
            self._leaving.discard(child)
            self.note()

    def _keep_running_anew(self, name: str) -> None:
        """Watch the present child; stop watching the edge that it replaces."""
        if name in self._keeping:
            self._keeping[name].cancel()
        self._keeping[name] = self._tasks.spawn(f"keep {name}", self._keep_running(name))

    async def _keep_running(self, name: str) -> None:
        """Start a child unless one runs, and restart it whenever it ends."""
        loop = asyncio.get_running_loop()
        deaths = 0
        while True:
            started = loop.time()
            try:
                child = self._children.get(name)
                if child is None or child.ended.is_set():
                    child = self._start(name)
            except OSError as error:  # out of memory, descriptors or space: may pass
                deaths += 1
                log.error("cannot start %s: %s", name, error)
            else:
                await child.ended.wait()
                deaths = deaths + 1 if loop.time() - started < STABLE_SECONDS else 1
                log.warning("%s ended (%s)", name, describe_end(child.status))
                # in a platform that was ready once, this part may recover; the others go on without it
                if not self.proven and (child.status == os.EX_CONFIG or deaths >= UNLIVELY):
                    self._give_up("\n".join([f"{name} cannot start:", *child.tail]))
                    return
                log.info("restarting %s", name)
            await asyncio.sleep(pause(deaths))

    async def _kill_when_silent(self, name: str, probe: Probe) -> None:
        """Probe a child for ever; kill one that does not answer, and `_keep_running` replaces it.

        A child has READY_SECONDS for its first answer and `probe_timeout` for each later one.
        """
        known: Child | None = None  # the child that has answered before
        while True:
            child = self._children.get(name)
            patience = self._settings.probe_timeout if child is known else READY_SECONDS
            answered = await probe.answered(patience)
            if child is not None and child is self._children.get(name) and not child.ended.is_set():
                if answered:
                    known = child
                elif self.reachable:
                    log.warning("%s did not answer for %g s; killing it", name, patience)
                    await child.kill()
            if child is not None:  # probe a successor at once: the shorter timeout holds after its first answer
                await set_within(child.ended, PAUSE)

    async def _stop(self, name: str, number: int, grace: float) -> None:
        if name in self._children:
            await self._children[name].stop(number, grace)


def _held_name(child: Child) -> str:
    return f"{child.part.name}{LASTING}{child.pid}"
