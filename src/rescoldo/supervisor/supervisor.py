"""The supervisor: `python -m rescoldo.supervisor.supervisor SETTINGS_FILE`, started by its guardian.

It starts edge, node and controller, and starts again what dies or does not answer any more. Where a supervisor
before it was killed it takes over what that one had started. It does little, so that there is little that could
end it; it imports no library beyond the standard one.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path

from rescoldo.isolation.syscalls import become_subreaper
from rescoldo.model.errors import RescoldoError
from rescoldo.model.messages import log_to_stderr
from rescoldo.model.settings import Settings
from rescoldo.supervisor import place
from rescoldo.supervisor.child import Child, Part, describe_end
from rescoldo.supervisor.datafolder import DataFolder
from rescoldo.supervisor.folders import clear, replace_text
from rescoldo.supervisor.guardian import LASTING, STABLE_SECONDS, become_guardian, pause
from rescoldo.supervisor.held_descriptors import HeldDescriptors
from rescoldo.supervisor.leftovers import end_instances, end_strays
from rescoldo.supervisor.parts import (
    CONTROLLER_GRACE,
    EDGE_GRACE,
    NODE_GRACE,
    controller_program,
    edge_program,
    edge_reload,
    node_program,
    silence,
    supervisor_command,
)
from rescoldo.supervisor.platformlog import bound, say
from rescoldo.supervisor.probes import PAUSE
from rescoldo.supervisor.runfolder import ACCEPTED_BY, ADMIN, FOLDER, RunFolder
from rescoldo.tasks import set_within

log = logging.getLogger(__name__)

READY_SECONDS = 60.0
UNLIVELY = 5  # early deaths in a row before the first readiness that end the start
BEAT_SECONDS = 1.0
LOOK_SECONDS = 1.0  # between looks whether the run folder is whole
MEND_SECONDS = 3.0  # for the node to make its own part of a lost run folder again
# what the edge accepts on; the last two where plain HTTP is sent on, and where there is a fence
GATES = ("gateway", "metrics", "redirect", "inside")


class Supervisor:
    def __init__(self, settings: Settings, kept: HeldDescriptors) -> None:
        self._settings = settings
        self._kept = kept
        self._children: dict[str, Child] = {}
        self._leaving: set[Child] = set()  # an old edge, finishing its requests after a reload
        self._stopping = asyncio.Event()
        self._ready = False
        self._fatal: str | None = None
        self._unanswered = 0  # beats since the guardian last answered
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._folder = RunFolder(settings)
        self._data = DataFolder(settings, kept)
        self._lost = False  # the run folder is not whole
        if GATES[0] not in kept.table:  # the one before was killed while it stopped the platform
            self._stopping.set()
        self._programs = self._with_sockets()

    def _with_sockets(self) -> dict[str, Part]:
        """The programs, with the sockets that there are now."""
        table = self._kept.table
        sockets = {name: table[name][0] for name in (*ACCEPTED_BY, *GATES) if name in table}
        programs = (
            edge_program(self._settings, {name: sockets[name] for name in GATES if name in sockets}),
            node_program(self._settings, sockets["node"], table.get("fence", ())),
            controller_program(self._settings, {name: sockets[name] for name in ("wake", "api", "log")}),
        )
        return {program.name: program for program in programs}

    async def run(self) -> int:
        """Supervise until SIGTERM or SIGINT; return the exit status."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        self._kept.on_loss = self._guardian_gone
        loop.add_reader(self._kept.fileno(), self._hear)
        beating = asyncio.create_task(self._beat(), name="beat")
        self._take_over()
        for program in self._programs.values():
            self._run_task(f"keep {program.name}", self._keep(program))
            self._run_task(f"probe {program.name}", self._probe(program))
        self._run_task("announce", self._announce())
        self._run_task("keep folders", self._keep_folders())
        await self._stopping.wait()
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        await self._stop_children()
        beating.cancel()
        # closing the loop closes what its signal handlers write to before it takes them away
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.remove_signal_handler(number)
        if self._fatal is not None:
            say(f"rescoldo: {self._fatal}")
            return os.EX_CONFIG
        return 0

    def _run_task(self, name: str, work: Coroutine[None, None, None]) -> None:
        """Run `work` until the platform stops; one of the same name is called off."""
        if name in self._tasks:
            self._tasks[name].cancel()
        task = self._tasks[name] = asyncio.create_task(work, name=name)
        task.add_done_callback(_tell_unexpected)

    # -- the guardian

    async def _beat(self) -> None:
        """Tell the guardian that we live, and see that it does."""
        while True:
            self._kept.beat()
            bound(self._settings.platform_log)
            await asyncio.sleep(BEAT_SECONDS)
            self._unanswered += 1
            if self._unanswered >= silence(self._settings):
                self._guardian_gone()

    def _hear(self) -> None:
        if self._kept.heard():
            self._unanswered = 0
        else:
            asyncio.get_running_loop().remove_reader(self._kept.fileno())
            self._guardian_gone()

    def _guardian_gone(self) -> None:
        """Become the next guardian, whose new supervisor takes over. At the very end nobody needs one."""
        if self._stopping.is_set():
            return
        log.warning("the guardian ended or is silent; this process takes its place")
        if os.getppid() == self._kept.guardian:  # it is stopped
            os.kill(self._kept.guardian, signal.SIGKILL)
        try:
            become_subreaper()
            become_guardian(silence(self._settings), supervisor_command(self._settings), self._kept.table)
        except OSError as error:
            log.error("going on without a guardian: %s", error)
            self._unanswered = 0

    def _take_over(self) -> None:
        """Adopt what another supervisor started; end what it could not tell of any more."""
        for name, numbers in list(self._kept.table.items()):
            program, lasting, pid = name.partition(LASTING)
            if not lasting:
                continue
            child = Child.adopt(self._programs[program], int(pid), *numbers)
            if (older := self._children.get(program)) is not None:
                self._leaving.add(older)  # a reload starts the new edge while the old one is there
            self._hold(child)
        self._ready = bool(self._children)
        end_strays(
            self._settings, self._kept.guardian, {child.pid for child in (*self._children.values(), *self._leaving)}
        )
        try:
            place.name_holder(self._kept.table["lock"][0], self._kept.guardian)
        except OSError as error:
            log.error("cannot name the holder of the lock: %s", error)
        self._note_children()

    # -- children

    def _start(self, name: str, command: Sequence[str] | None = None) -> Child:
        if not self._settings.settings_file.exists():  # nothing but `_keep_folders` makes the folder
            raise FileNotFoundError(f"the run folder {self._settings.run} is lost")
        child = Child.start(self._programs[name], command)
        self._kept.keep(_kept_name(child), child.pidfd, child.output)
        self._hold(child)
        self._note_children()
        return child

    def _hold(self, child: Child) -> None:
        self._children[child.program.name] = child
        child.on_end = self._forget

    def _forget(self, child: Child) -> None:
        self._kept.drop(_kept_name(child))
        if child in self._leaving:
            self._leaving.discard(child)
            self._note_children()

    async def _keep(self, program: Part) -> None:
        """Have a program running: start it, and again whenever it ends."""
        loop = asyncio.get_running_loop()
        deaths = 0
        while True:
            started = loop.time()
            try:
                child = self._children.get(program.name)
                if child is None or child.ended.is_set():
                    child = self._start(program.name)
            except OSError as error:  # no memory, no descriptors, no space: it may pass
                deaths += 1
                log.error("%s cannot be started: %s", program.name, error)
            else:
                await child.ended.wait()
                deaths = deaths + 1 if loop.time() - started < STABLE_SECONDS else 1
                log.warning("%s ended (%s)", program.name, describe_end(child.status))
                # later it may be mended, and what does not need this program goes on
                if not self._ready and (child.status == os.EX_CONFIG or deaths >= UNLIVELY):
                    self._fatal = "\n".join([f"{program.name} cannot start:", *child.tail])
                    self._stopping.set()
                    return
                log.info("%s is started again", program.name)
            await asyncio.sleep(pause(deaths))

    async def _probe(self, program: Part) -> None:
        """Kill a program that does not answer any more; `_keep` starts it again."""
        assert program.probe is not None
        known: Child | None = None  # the one that has answered
        while True:
            child = self._children.get(program.name)
            patience = self._settings.probe_timeout if child is known else READY_SECONDS
            answered = await program.probe.answered(patience)
            if child is not None and child is self._children.get(program.name) and not child.ended.is_set():
                if answered:
                    known = child
                elif not self._lost:  # nobody could ask it
                    log.warning("%s has not answered for %g s and is killed", program.name, patience)
                    child.send(signal.SIGKILL)
                    await child.ended.wait()
            if child is not None:  # its successor is asked at once: known to live, it is not given as long
                await set_within(child.ended, PAUSE)

    def _reload(self) -> None:
        """The controller has written a configuration with more slots."""
        old = self._children["edge"]
        self._replace_edge(edge_reload(self._settings, old.pid))

    def _replace_edge(self, command: Sequence[str]) -> None:
        """Start the next edge with a command that lets this one finish what it has."""
        old = self._children["edge"]
        self._leaving.add(old)
        try:
            self._start("edge", command)
        except OSError as error:
            self._leaving.discard(old)
            log.error("the edge cannot be reloaded: %s", error)
            return
        self._run_task("keep edge", self._keep(self._programs["edge"]))

    # -- the run folder

    async def _keep_folders(self) -> None:
        """Make the run folder again when it is lost, and start again what nobody could reach any more."""
        said = ""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self._data.mend()
            edge = self._children.get("edge")
            lost = self._folder.lost(edge.pid if edge is not None else 0)
            self._lost = bool(lost)
            if not lost:
                continue
            what = f"the run folder {self._settings.run} was lost ({', '.join(sorted(lost))})"
            try:
                sockets = self._folder.make_again(lost)
            except (OSError, RescoldoError) as error:
                if str(error) != said:  # what runs goes on; nothing new can start
                    said = str(error)
                    log.error("%s and cannot be made again: %s", what, error)
                continue
            log.warning("%s and is made again", what)
            said = ""
            there = dict(self._children)  # those that start from here on have the new sockets
            self._take(sockets)
            self._note_children()
            await self._replace_unreachable(lost, there)
            self._lost = False

    def _take(self, sockets: Mapping[str, socket.socket]) -> None:
        """Let the children accept on these from now on."""
        for name, sock in sockets.items():
            (before,) = self._kept.table[name]
            self._kept.keep(name, sock.detach())
            os.close(before)
        self._programs = self._with_sockets()

    async def _replace_unreachable(self, lost: set[str], there: Mapping[str, Child]) -> None:
        """Start again those of `there` that accept on a socket without a name."""
        edge = there.get("edge")
        if ADMIN in lost and edge is not None and not edge.ended.is_set():
            # not over the admin socket: the listeners are inherited
            self._replace_edge([*self._programs["edge"].command(), "-sf", str(edge.pid)])
        for name in ("controller", "node"):
            child = there.get(name)
            if child is None or lost.isdisjoint(sock for sock, program in ACCEPTED_BY.items() if program == name):
                continue
            if name == "node" and FOLDER in lost:
                await self._until_node_mended(child)
            child.send(signal.SIGKILL)
            await child.ended.wait()

    async def _until_node_mended(self, node: Child) -> None:
        """Its instances have no sockets any more: it tells the controller, and writes its notes for the next one."""
        deadline = asyncio.get_running_loop().time() + MEND_SECONDS
        while not (self._settings.instance_state.exists() or node.ended.is_set()):
            if asyncio.get_running_loop().time() > deadline:
                return
            await asyncio.sleep(LOOK_SECONDS / 20)

    async def _announce(self) -> None:
        """Say that the platform is there, once it answers."""
        host, _, port = self._settings.metrics.rpartition(":")  # the same process, without TLS
        while not await _answers(host.strip("[]"), int(port)):
            await asyncio.sleep(0.02)
        self._ready = True
        say(f"rescoldo: ready at {self._settings.scheme}://{self._settings.gateway}")

    async def _stop_children(self) -> None:
        """Edge and controller together: the edge takes no more and finishes what it has, the controller lets
        go of it and takes its last lines. The node last, as it holds the instances."""
        for name in GATES:  # else who connects now would wait for an edge that does not come
            for number in self._kept.table.get(name, ()):
                os.close(number)
            self._kept.drop(name)
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
        # a node that was killed, or was told to end before it could listen to it, has left them
        await asyncio.to_thread(end_instances, self._settings)
        clear(self._settings)

    def _note_children(self) -> None:
        pids = {"guardian": self._kept.guardian, "supervisor": os.getpid()}
        pids |= {name: child.pid for name, child in self._children.items()}
        pids |= {f"{child.program.name} {child.pid}, leaving": child.pid for child in self._leaving}
        try:
            self._settings.pid_file.write_text(str(os.getpid()))
            replace_text(self._settings.children_file, json.dumps(pids))
        except OSError as error:
            log.error("cannot note the processes in %s: %s", self._settings.children_file, error)


def _kept_name(child: Child) -> str:
    return f"{child.program.name}{LASTING}{child.pid}"


def _tell_unexpected(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("task %r ended unexpectedly", task.get_name(), exc_info=error)


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


async def _run(settings: Settings, kept: HeldDescriptors) -> int:
    return await Supervisor(settings, kept).run()


def main() -> int:
    log_to_stderr("supervisor: %(levelname)s: %(message)s")
    try:
        kept = HeldDescriptors.inherited()
        return asyncio.run(_run(kept.settings() or Settings.load(Path(sys.argv[1])), kept))
    except (RescoldoError, OSError) as error:  # not for good, perhaps: the guardian tries again
        say(f"supervisor: {error}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
