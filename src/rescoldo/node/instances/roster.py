"""Every instance of this node, from start to stop: started, watched, replaced, adopted."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import shutil
import signal
import socket
import time
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from pathlib import Path

from rescoldo.isolation import netfence
from rescoldo.isolation.identity import has_processes, level
from rescoldo.model.calls import FailedCall
from rescoldo.model.coldstart import StartTimes
from rescoldo.model.errors import Busy, Conflict, RescoldoError, StartFailed
from rescoldo.model.instance import LISTENS, Launch, RunningInstance
from rescoldo.model.names import FunctionId, InstanceId
from rescoldo.model.program import INHERITED, UNIX
from rescoldo.model.settings import INSTANCE_UIDS, Settings
from rescoldo.node.instances import notes
from rescoldo.node.instances.boot import Boot
from rescoldo.node.instances.failed_calls import FailedCalls
from rescoldo.node.instances.notes import Note
from rescoldo.node.instances.processes import (
    Watched,
    members,
    proportional_memory,
    read_stat,
    signal_group,
)
from rescoldo.node.instances.sandboxes import Sandboxes
from rescoldo.node.instances.supervised import Supervised, listen, open_stand_in, regain_listener, regain_output
from rescoldo.node.instances.uids import Uids
from rescoldo.node.output.logs import LogBook
from rescoldo.node.output.output import Output
from rescoldo.node.output.pump import Pump
from rescoldo.node.protocol import Exit, InstanceUsage
from rescoldo.node.sockets.addresses import SHARED, address_of, remove_socket, tcp_address
from rescoldo.node.sockets.listeners import Listeners, is_held, is_shut
from rescoldo.node.sockets.ports import predecessors, until_free
from rescoldo.node.sockets.probe import accepts
from rescoldo.node.sockets.program_socket import ProgramSocket
from rescoldo.node.sockets.waiting import Waiting
from rescoldo.node.zygotes.zygotes import SPARES_DESCRIPTORS
from rescoldo.policy.respawn import FREE_DEATHS, MOST_FAILED_STARTS, early_deaths, respawn_pause

MAX_INSTANCES = 10_000
DESCRIPTORS_EACH = 5  # of an instance: listener, two of output, pidfd, and one to spare
OWN_DESCRIPTORS = 100  # of the node, its clients and the starts under way
UNREACHABLE_SECONDS = 5.0  # the same of one whose socket has lost its name; then it has its grace
UNHEARD_SECONDS = 4.0  # how long a program may not listen at its port while requests wait for it; it may restart itself
UNHEARD_PAUSE = 0.02  # between two looks meanwhile
LAST_GRACE = 10.0  # seconds that instances have in all when their node ends: the supervisor kills it after NODE_GRACE
LOST_SECONDS = 60.0  # the controller stops a lost instance sooner, when it is there

_LOG = logging.getLogger(__name__)


class Roster:
    """The instances of one node. `on_exit` gets each that is lost."""

    def __init__(
        self,
        settings: Settings,
        boot: Boot,
        sandboxes: Sandboxes,
        logs: LogBook,
        on_exit: Callable[[Exit], None],
        *,
        fenced: bool,
    ) -> None:
        self._settings = settings
        self._boot = boot
        self._sandboxes = sandboxes
        self._fenced = fenced  # each instance has TCP ports of its own
        self._logs = logs
        self._pump = Pump()  # of all that instances print
        self._waiting = Waiting()
        self.failures = FailedCalls(logs.write, lambda instance: instance in self._all)
        self.listeners = Listeners()
        self._deaf: set[asyncio.Task[None]] = set()  # those that end instances which take no more requests
        self._on_exit = on_exit
        self._all: dict[InstanceId, Supervised] = {}
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        spares = descriptors // SPARES_DESCRIPTORS
        self.most = min(MAX_INSTANCES, (descriptors - spares - OWN_DESCRIPTORS) // DESCRIPTORS_EACH)
        self._uids = Uids(INSTANCE_UIDS, settings.run, has_processes)
        self._privileged = level() == "full"

    # -- starting

    async def start(
        self, launch: Launch, on_address: Callable[[str], None], *, successor: bool = False
    ) -> RunningInstance:
        """See Node.start, but that `on_address` gets only what could not be known before; raises Conflict for an
        instance that exists."""
        begun = time.monotonic()
        instance, before = self._admit(launch, successor=successor)
        instance.took = StartTimes(slot=round((time.monotonic() - begun) * 1e6))
        if launch.binds:
            on_address(instance.note.address)
        task = instance.task = asyncio.create_task(self._start(instance, before), name=f"start {launch.instance}")
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise StartFailed(f"{launch.function}: stopped while it was starting") from None
            instance.ending = asyncio.create_task(self._stop(instance), name=f"stop {launch.instance}")
            raise  # who asked is gone and will never know of it

    def _admit(self, launch: Launch, *, successor: bool) -> tuple[Supervised, list[Supervised]]:
        """Make everything an instance needs before it can be forked; return those, too, that it takes over from."""
        if launch.instance in self._all:
            raise Conflict(f"instance {launch.instance} exists already")
        if len(self._all) >= self.most:
            limit = "" if self.most == MAX_INSTANCES else ": raise its limit of descriptors (ulimit -n)"
            raise Busy(f"this node runs {self.most} instances and takes no more{limit}")
        output: Output | None = None
        uid = self._uids.take() if self._privileged else None
        try:
            host = netfence.address_of(uid) if self._fenced and uid is not None else SHARED
            note = Note(launch, uid, address_of(self._settings, launch, host))
            before = predecessors(launch, note.address, self._all.values(), successor=successor)
            note_path = self._note_path(launch.instance)
            output = Output.create(_fifo(note_path), uid, self._writer(launch), launch.log_rate, self._pump)
            listener = None if launch.binds else listen(note.address, self._privileged)
            scratch = self._scratch(launch.instance)
            if not self._privileged:
                scratch.mkdir(mode=0o700)
            berth = self._berth(launch, uid)
            if berth is not None:
                berth.make()
        except (OSError, StartFailed) as error:
            if output is not None:
                output.close()
            notes.remove(self._note_path(launch.instance))
            if uid is not None:
                self._uids.give_back(uid)
            raise error if isinstance(error, StartFailed) else StartFailed(f"{launch.function}: {error}") from error
        instance = self._all[launch.instance] = Supervised(note, note_path, output, listener, str(scratch), berth)
        return instance, before

    def _scratch(self, instance: InstanceId) -> Path:
        """The folder the instance may write to; a sandbox of the level full has a /tmp of its own."""
        return Path("/tmp") if self._privileged else self._settings.scratch / instance

    def _berth(self, launch: Launch, uid: int | None) -> ProgramSocket | None:
        """Where the program is to bind a Unix socket, if it is to. Raises StartFailed."""
        if launch.upstream != UNIX:
            return None
        if uid is None:
            raise StartFailed(
                f"{launch.function}: `upstream_url: {UNIX}` needs a platform that runs as root; use "
                f"http://127.0.0.1:PORT, or {INHERITED} where the program can take over a socket"
            )
        return ProgramSocket(self._settings.berths / launch.instance, uid)

    def _stand_in(self, launch: Launch, uid: int | None) -> socket.socket | None:
        """Where requests wait that find nobody at the TCP port that a program has to itself. Raises StartFailed."""
        if not launch.port or not self._fenced or uid is None:
            return None
        try:
            return open_stand_in(netfence.stand_in_of(uid), launch.port)
        except OSError as error:
            raise StartFailed(f"{launch.function}: {error}") from error

    def _note_path(self, instance: InstanceId) -> Path:
        return self._settings.instance_state / f"{instance}.json"

    def _writer(self, launch: Launch) -> Callable[[list[str]], None]:
        return lambda lines: self._logs.write(launch.function, launch.instance, lines)

    async def _start(self, instance: Supervised, before: list[Supervised]) -> RunningInstance:
        launch = instance.note.launch
        try:
            instance.waited = await until_free(launch, instance.note.address, before)
            instance.stand_in = self._stand_in(launch, instance.note.uid)
            await self._boot.start(instance)
        except Exception:
            await self._boot.end(instance, grace=0.0)
            self._remove(instance)
            raise
        self._guard(instance)
        return instance.running()

    # -- watching

    def _guard(self, instance: Supervised) -> None:
        self._look_at(instance)
        name = f"guard {instance.note.launch.instance}"
        instance.task = asyncio.create_task(self._watch(instance), name=name)
        instance.task.add_done_callback(_tell_unexpected)

    async def _watch(self, instance: Supervised) -> None:
        """Wait for an end nobody asked for; replace the instance on its socket, as long as that works."""
        launch = instance.note.launch
        deaths = 0
        while True:
            assert instance.process is not None
            await instance.process.ended.wait()
            deaths = early_deaths(deaths, ready_at=instance.ready_at, ended_at=time.monotonic())
            ended_at = time.time()
            reason, starved = await self._boot.end(instance, grace=0.0)
            self.failures.ended(launch.function, launch.instance, reason)
            if starved and (backlog := instance.backlog) is not None:
                tell = partial(self._tell, launch)
                await self._waiting.refuse_begun(backlog, instance.backlog_address, reason, ended_at, tell)
            if launch.binds or instance.listener is None:  # no socket for a replacement: the controller starts another
                break
            instance.output.keep([f"instance ended: {reason}; replaced"])
            await asyncio.sleep(respawn_pause(deaths))
            if is_shut(instance.listener):
                self._renew(instance)
            if (failure := await self._replace(instance)) is not None:
                reason = f"{reason}; its replacement failed: {failure}"
                break
        reason, told = reason.splitlines()[0], reason
        instance.output.keep([f"instance ended: {reason}"])
        lived = time.monotonic() - instance.ready_at
        instance.ready_at = 0.0  # not among the instances any more; its socket still takes what arrives
        self._on_exit(Exit(launch.instance, launch.function, told, lived))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOST_SECONDS):
                if (backlog := instance.backlog) is not None:
                    self.listeners.remove(backlog)
                    other, tell = partial(self._other, instance), partial(self._tell, launch)
                    await self._waiting.serve_elsewhere(backlog, reason, other, tell)
                await asyncio.sleep(LOST_SECONDS)
        self._remove(instance)

    # -- instances that take no more requests

    def _look_at(self, instance: Supervised) -> None:
        if instance.listener is not None:
            self.listeners.add(instance.listener, partial(self._shut, instance), partial(self._waits, instance))
        elif instance.stand_in is not None:
            self.listeners.add(instance.stand_in, partial(self._shut, instance), partial(self._unheard, instance))

    def _shut(self, instance: Supervised) -> None:
        """Its socket has been shut down; what is on its way to it is refused."""
        if instance.note.launch.binds:
            assert instance.listener is not None
            self.listeners.remove(instance.listener)
            if accepts(socket.AF_UNIX, instance.path):  # it has bound another one, which we do without
                instance.listener.close()
                instance.listener = None
                return
        else:
            self._renew(instance)
        self._end_deaf(instance, "its listening socket has been shut down")

    def _renew(self, instance: Supervised) -> None:
        """Let requests wait in a new socket, for the next process: it is there before they are refused for long."""
        assert instance.listener is not None
        before = instance.listener
        self.listeners.remove(before)
        try:
            instance.listener = listen(instance.note.address, self._privileged)
        except OSError as error:
            _LOG.error("%s: no new listening socket: %s", instance.note.launch.instance, error)
            return
        self._look_at(instance)
        self._waiting.move(before, instance.note.address)

    async def _waits(self, instance: Supervised) -> None:
        """Requests wait for the instance: because it is busy, or because it has closed its socket."""
        process, listener = instance.process, instance.listener
        if process is None or listener is None or not instance.note.ready:
            return
        held = await is_held(listener, process.pid, instance.note.uid)
        if instance.process is not process or not instance.note.ready:
            return
        if held is None:
            process.signal(LISTENS)  # it looks itself
        elif not held:
            self._end_deaf(instance, "it has closed its listening socket")

    async def _unheard(self, instance: Supervised) -> None:
        """Requests wait in the instance's stand-in: when they came, its program did not listen at its port."""
        process, stand_in, where = instance.process, instance.stand_in, tcp_address(instance.note.address)
        assert process is not None and stand_in is not None and where is not None
        deadline = time.monotonic() + UNHEARD_SECONDS
        while not process.ended.is_set():
            if accepts(socket.AF_INET, where):
                await self._waiting.pass_on(stand_in, instance.note.address)
                break
            if time.monotonic() >= deadline:
                self._end_deaf(instance, f"nobody listens at its port {instance.note.launch.port}")
                break
            await asyncio.sleep(UNHEARD_PAUSE)

    def _end_deaf(self, instance: Supervised, reason: str) -> None:
        """End the process, after what it has; the rest follows as after every end."""
        if instance.process is None or instance.ending is not None:
            return
        instance.output.keep([f"instance takes no more requests: {reason}"])
        task = asyncio.create_task(self._end_process(instance, instance.process), name="end a deaf instance")
        self._deaf.add(task)
        task.add_done_callback(self._deaf.discard)

    async def _end_process(self, instance: Supervised, process: Watched) -> None:
        await self._boot.ask_to_end(instance, instance.note.launch.grace)
        process.kill()

    def _tell(self, launch: Launch, call_id: str, reason: str) -> None:
        """The node has answered a call in the place of an instance that has ended."""
        self.failures.record(
            FailedCall(launch.function, launch.instance, call_id, time.time(), HTTPStatus.BAD_GATEWAY, reason)
        )

    def _other(self, lost: Supervised) -> str | None:
        """Where another instance is that can serve what `lost` would have."""
        for found in self._all.values():
            same = _what_runs(found.note.launch) == _what_runs(lost.note.launch)
            if same and found.backlog is not None and found.ready_at and found.ending is None:
                return found.note.address
        return None

    async def _replace(self, instance: Supervised) -> str | None:
        """Start a process again on the instance's socket; return why it cannot be, if so."""
        for attempt in range(MOST_FAILED_STARTS):
            try:
                await self._boot.start(instance)
                assert instance.listener is not None
                self.listeners.begin_anew(instance.listener)
                return None
            except RescoldoError as error:
                failure = error.message
                await asyncio.sleep(respawn_pause(attempt + FREE_DEATHS))
        return failure

    # -- stopping

    async def stop(self, instance: InstanceId) -> None:
        """See Node.stop."""
        found = self._all.get(instance)
        if found is None:
            return
        if found.ending is None:
            found.ending = asyncio.create_task(self._stop(found), name=f"stop {instance}")
        await asyncio.shield(found.ending)

    async def _stop(self, instance: Supervised) -> None:
        if instance.task is not None:
            instance.task.cancel()
            await asyncio.wait({instance.task})
        launch, ran = instance.note.launch, instance.process is not None
        reason, _ = await self._boot.end(instance, grace=launch.grace)
        if ran:
            self.failures.ended(launch.function, launch.instance, f"{reason}, as it was asked to stop")
        self._remove(instance)

    def _remove(self, instance: Supervised) -> None:
        """Forget an instance whose processes are gone."""
        uid = instance.note.uid
        if self._all.pop(instance.note.launch.instance, None) is None:
            return
        if (backlog := instance.backlog) is not None:
            self.listeners.remove(backlog)
        instance.put_away()
        if uid is not None and instance.swept:
            self._uids.give_back(uid)

    async def stop_all(self) -> None:
        """Stop every instance, all at once, within LAST_GRACE and what it takes to kill them."""
        stops = [asyncio.create_task(self.stop(instance), name=f"stop {instance}") for instance in list(self._all)]
        if stops:
            await asyncio.wait(stops, timeout=LAST_GRACE)
        for process in self.processes():
            process.kill()
        await asyncio.gather(*stops)

    # -- adopting

    async def adopt(self) -> None:
        """Take over what a dead node left running, and remove what it left that does not run."""
        for path, note in notes.read_all(self._settings.instance_state):
            process = _still_running(note) if note is not None else None
            output = self._output(path, note) if note is not None and process is not None else None
            if note is not None and process is not None and output is not None:
                self._take_over(path, note, process, output)
            else:
                await self._clean_up(path, note)
        for folder in (self._settings.instances, self._settings.instance_state):
            for file in folder.iterdir():
                if file.stem not in self._all:
                    file.unlink(missing_ok=True)
        for folder in self._settings.scratch.iterdir():
            if folder.name not in self._all:
                shutil.rmtree(folder, ignore_errors=True)
        for folder in self._settings.berths.iterdir():
            if folder.name not in self._all:
                ProgramSocket(folder, 0).remove()
        await self._sandboxes.remove_others(self.sandboxes())

    def sandboxes(self) -> set[str]:
        """Of all instances."""
        return {found.note.sandbox for found in self._all.values()}

    def _output(self, path: Path, note: Note) -> Output | None:
        """What an instance prints; None where one of its FIFOs has lost its name and cannot be had: the instance would
        stand still once that is full."""
        fifo, opened = _fifo(path), list[int | None]()
        for number, name in enumerate(Output.names(fifo), start=1):
            opened.append(None if name.is_fifo() else regain_output(note.pid, number))
            if opened[-1] is None and not name.is_fifo():
                return None
        return Output(fifo, self._writer(note.launch), note.launch.log_rate, self._pump, opened)

    def _take_over(self, path: Path, note: Note, process: Watched, output: Output) -> None:
        listener = None if note.launch.binds else regain_listener(note.pid, note.address)
        scratch = str(self._scratch(note.launch.instance))
        berth = self._berth(note.launch, note.uid)
        instance = Supervised(note, path, output, listener, scratch, berth, process=process, ready_at=time.monotonic())
        instance.hold_listener()
        try:
            instance.stand_in = self._stand_in(note.launch, note.uid)
        except StartFailed as error:
            _LOG.error("%s", error.message)
        self._all[note.launch.instance] = instance
        if note.uid is not None:
            self._uids.adopt(note.uid)
        self._guard(instance)

    async def _clean_up(self, path: Path, note: Note | None) -> None:
        if note is not None:
            stat = read_stat(note.pid) if note.pid else None
            if stat is not None and stat.started == note.pid_start:
                signal_group(note.pid, signal.SIGKILL)
            if self._privileged and note.uid is not None:
                self._uids.adopt(note.uid)
                if await self._boot.sweep(note.uid):
                    self._uids.give_back(note.uid)
            remove_socket(note.address)
            launch = note.launch
            self.failures.ended(launch.function, launch.instance, "how is not known, as the node restarted meanwhile")
        notes.remove(path)  # its FIFOs go with all files that belong to nothing

    def forget(self, function: FunctionId) -> None:
        """Remove what is kept of a removed function; its instances, which end, write no more to its log."""
        for found in self._all.values():
            if found.note.launch.function == function:
                found.output.mute()
        self._logs.forget(function)
        self.failures.forget(function)

    # -- instances that nothing reaches any more

    def mend(self) -> None:
        """What was removed from the run folder while instances ran: a note is written again; an instance whose socket
        has no name any more is lost. Raises OSError."""
        for found in list(self._all.values()):
            if found.note.pid and not found.note_path.exists():  # whatever becomes of it, a next node must know of it
                notes.write(found.note_path, found.note)
            if found.was_ready and found.ending is None and not found.is_whole:
                self._lose(found, "its socket or its folder was removed from the run folder")

    def at_ports(self) -> list[Supervised]:
        """Programs at TCP ports that have no stand-in, which would show that they have left."""
        shared = (found for found in self._all.values() if found.note.launch.port and found.stand_in is None)
        return [found for found in shared if found.was_ready]

    def left_port(self, instance: Supervised) -> None:
        """Nobody listens at the program's port. One that is on its way out anyway is left alone."""
        if not instance.is_leaving:
            self._lose(instance, f"nobody listens at its port {instance.note.launch.port}")

    def _lose(self, instance: Supervised, reason: str) -> None:
        """Nothing new reaches it. The controller starts another and has this one stopped, with its grace."""
        launch = instance.note.launch
        self._logs.write(launch.function, launch.instance, [f"instance lost: {reason}"])
        lived = time.monotonic() - instance.ready_at
        instance.ready_at = 0.0
        if instance.task is not None:
            instance.task.cancel()
        instance.task = asyncio.create_task(self._outlive(instance), name=f"lost {launch.instance}")
        self._on_exit(Exit(launch.instance, launch.function, reason, lived))

    async def _outlive(self, instance: Supervised) -> None:
        """Wait for the controller; one that starts just now never knows of it."""
        await asyncio.sleep(UNREACHABLE_SECONDS)
        instance.ending = asyncio.create_task(self._stop(instance), name=f"stop {instance.note.launch.instance}")

    # -- telling

    def processes(self) -> list[Watched]:
        """The main process of each instance that has one."""
        return [found.process for found in self._all.values() if found.process is not None]

    def instances(self) -> list[RunningInstance]:
        """Every instance that is ready, or was and is being replaced."""
        return [found.running() for found in self._all.values() if found.ready_at and found.ending is None]

    async def usage(self, function: FunctionId) -> list[InstanceUsage]:
        """What the ready instances of `function` use."""
        ready = [found for found in self.instances() if found.launch.function == function]
        return [await _usage(found, self._privileged) for found in ready]


def _what_runs(launch: Launch) -> tuple[FunctionId, int, int]:
    return launch.function, launch.revision, launch.generation


def _fifo(note: Path) -> Path:
    """Where an instance's standard output is read from."""
    return note.with_suffix(".log")


def _still_running(note: Note) -> Watched | None:
    """The process of `note`, if it is ready and still the one that was meant."""
    if not note.ready:
        return None
    try:
        pidfd = os.pidfd_open(note.pid)
    except ProcessLookupError:
        return None
    stat = read_stat(note.pid)  # read while the pidfd holds: if it matches, the pidfd means this process
    if stat is None or stat.state == "Z" or stat.started != note.pid_start:
        os.close(pidfd)
        return None
    return Watched(note.pid, pidfd)


async def _usage(instance: RunningInstance, own_uid: bool) -> InstanceUsage:
    memory, cpu = 0, 0.0
    for pid in await members(instance.pid, instance.uid if own_uid else None):
        stat = read_stat(pid)
        if stat is None:
            continue
        proportional = proportional_memory(pid)
        memory += stat.resident if proportional is None else proportional
        cpu += stat.cpu_seconds
    return InstanceUsage(instance.launch.instance, memory, round(cpu, 3))


def _tell_unexpected(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _LOG.error("task %r ended unexpectedly", task.get_name(), exc_info=error)
