"""Resources that an instance needs before its fork, and their return when the instance is gone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path

from rescoldo.isolation.identity import has_processes
from rescoldo.model.errors import StartFailed
from rescoldo.model.ids import INSTANCE_UIDS
from rescoldo.model.instance import Launch
from rescoldo.model.names import InstanceId
from rescoldo.model.settings import Settings
from rescoldo.node.instances import notes
from rescoldo.node.instances.memory_watch import MemoryWatch
from rescoldo.node.instances.notes import Note
from rescoldo.node.instances.roster import Roster
from rescoldo.node.instances.supervised import Supervised
from rescoldo.node.instances.uids import Uids
from rescoldo.node.output.logs import LogBook
from rescoldo.node.output.output import Output
from rescoldo.node.output.pump import Pump
from rescoldo.node.processes.processes import Watched
from rescoldo.node.sockets.endpoint import Neighbour
from rescoldo.node.sockets.endpoints import Endpoints
from rescoldo.node.sockets.listeners import Listeners
from rescoldo.node.sockets.regain import regain_output


class Admission:
    """Admits instances: allocates uid, note, output, folder and endpoint, enters the instance into the roster, and
    releases all of them at its end."""

    def __init__(
        self,
        settings: Settings,
        roster: Roster,
        endpoints: Endpoints,
        listeners: Listeners,
        logs: LogBook,
        memory: MemoryWatch | None = None,
    ) -> None:
        """`memory` knows what fits, where no cgroup limits instances."""
        self._memory = memory
        self._settings = settings
        self._roster = roster
        self._endpoints = endpoints
        self._listeners = listeners
        self._logs = logs
        self._pump = Pump()  # one for the output of all instances
        self._uids = Uids(INSTANCE_UIDS, settings.run, has_processes)
        self._privileged = endpoints.privileged

    def admit(self, launch: Launch, *, successor: bool) -> tuple[Supervised, list[Neighbour]]:
        """Allocate everything that an instance needs; return the instance, and the instances that are leaving the
        address it takes over. Raises Conflict, Busy, and StartFailed; nothing is left then."""
        self._roster.check_room(launch)
        with ExitStack() as undo:
            uid = self._uids.take() if self._privileged else None
            if uid is not None:
                undo.callback(self._uids.give_back, uid)
            endpoint = self._endpoints.choose(launch, uid)
            leavers = endpoint.leavers(self._roster, successor=successor)
            note, note_path = Note(launch, uid, endpoint.address), self._note_path(launch.instance)
            try:
                undo.callback(notes.remove, note_path)
                output = Output.create(_fifo_of(note_path), uid, self._writer(launch), launch.log_rate, self._pump)
                undo.callback(output.close)
                endpoint.make()
                undo.callback(endpoint.put_away)
                scratch = self._scratch(launch.instance)
                if not self._privileged:
                    scratch.mkdir(mode=0o700)
            except OSError as error:
                raise StartFailed(f"{launch.function}: {error}") from error
            undo.pop_all()
        instance = Supervised(note, note_path, output, endpoint, str(scratch))
        self._roster.add(instance)
        return instance, leavers

    async def take_memory(self, instance: Supervised) -> None:
        """Return when the next process of an instance fits into the memory, or raise Busy when it does not."""
        if self._memory is not None:
            await self._memory.take_room(instance)

    def adopt(self, note: Note, note_path: Path, process: Watched) -> Supervised | None:
        """Enter a serving instance that a dead node left behind. Return None where an output FIFO has lost its name
        and the node cannot regain it: the instance would block as soon as that FIFO is full."""
        fifo, opened = _fifo_of(note_path), list[int | None]()
        for number, name in enumerate(Output.names(fifo), start=1):
            opened.append(None if name.is_fifo() else regain_output(note.pid, number))
            if opened[-1] is None and not name.is_fifo():
                return None
        output = Output(fifo, self._writer(note.launch), note.launch.log_rate, self._pump, opened)
        endpoint = self._endpoints.choose(note.launch, note.uid, note.address)
        endpoint.adopt(note.pid)
        instance = Supervised(note, note_path, output, endpoint, str(self._scratch(note.launch.instance)))
        instance.adopted(process)
        self._roster.add(instance)
        if note.uid is not None:
            self._uids.adopt(note.uid)
        return instance

    def release(self, instance: Supervised) -> None:
        """Release an instance whose processes are gone. Its uid returns to the pool only if no process of that uid
        is left."""
        if not self._roster.remove(instance):
            return
        if (backlog := instance.endpoint.backlog) is not None:
            self._listeners.remove(backlog)
        instance.put_away()
        if instance.note.uid is not None and instance.swept:
            self._uids.give_back(instance.note.uid)

    async def take_back(self, uid: int, sweep: Callable[[int], Awaitable[bool]]) -> None:
        """Reserve the `uid` of an instance that ended under a dead node, until `sweep` has ended its leftover
        processes. `sweep` returns whether none is left; only then can another instance get the uid."""
        if self._privileged:
            self._uids.adopt(uid)
            if await sweep(uid):
                self._uids.give_back(uid)

    def _scratch(self, instance: InstanceId) -> Path:
        """The folder that the instance may write to. At isolation level full each sandbox has a /tmp of its own."""
        return Path("/tmp") if self._privileged else self._settings.scratch / instance

    def _note_path(self, instance: InstanceId) -> Path:
        return self._settings.instance_state / f"{instance}.json"

    def _writer(self, launch: Launch) -> Callable[[list[str]], None]:
        return lambda lines: self._logs.write(launch.function, launch.instance, lines)


def _fifo_of(note: Path) -> Path:
    """The FIFO from which the node reads an instance's standard output."""
    return note.with_suffix(".log")
