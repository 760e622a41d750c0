"""One instance in the node's hands: its endpoint, output, note and process."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rescoldo.model.coldstart import NO_TIME, StartTimes, took_by
from rescoldo.model.instance import Launch, RunningInstance
from rescoldo.model.names import FunctionId
from rescoldo.node.instances import notes
from rescoldo.node.instances.notes import Note
from rescoldo.node.output.output import Output
from rescoldo.node.processes.processes import Watched
from rescoldo.node.protocol import BundleHere
from rescoldo.node.sockets.endpoint import Endpoint


@dataclass(slots=True)
class Supervised:
    """The state of an instance from its admission until nothing of it is left; a `Neighbour` to other instances'
    endpoints."""

    note: Note
    note_path: Path
    output: Output
    endpoint: Endpoint
    scratch: str  # folder that the instance may write to
    bundle: BundleHere | None = None  # found again at each start of a process
    process: Watched | None = None
    ready_at: float = 0.0  # seconds on the monotonic clock
    ordered_at: float = 0.0  # seconds on the monotonic clock: when its turn to start came
    waited: float = 0.0  # seconds of its ready timeout spent waiting for its TCP port
    took: StartTimes = NO_TIME  # durations of the phases of its start
    has_room: bool = False  # the memory watch has promised its next process, or its present one, what it will take
    condemned: str = ""  # why the memory watch has killed its process; empty: it has not
    gone: bool = False  # everything has been put away
    swept: bool = True  # no process of its uid is known to be left
    task: asyncio.Task[Any] | None = None  # starts the instance, then waits for its end
    ending: asyncio.Task[None] | None = None  # the stop that is under way
    _ready_note: Note | None = None  # prepared for the starting process

    @property
    def function(self) -> FunctionId:
        return self.note.launch.function

    @property
    def address(self) -> str:
        return self.note.address

    @property
    def was_ready(self) -> bool:
        """Whether it has served before; a start then replaces a process that ended."""
        return self.ready_at > 0

    @property
    def serves(self) -> bool:
        """Whether it is ready, or its process is being replaced, and no stop is under way."""
        return self.was_ready and self.ending is None

    @property
    def is_leaving(self) -> bool:
        """Whether it takes no more requests: it is being stopped, has ended, or is lost."""
        ended = self.process is None or not self.process.is_alive()
        return self.ending is not None or (self.note.ready and (ended or not self.was_ready))

    @property
    def may_listen(self) -> bool:
        """Whether it has a process, or may still get one."""
        return not self.gone and (self.process is not None or not self.note.ready)

    @property
    def may_bind_yet(self) -> bool:
        """Whether it is starting, even while a stop is under way: it may still bind its socket."""
        return self.may_listen and not self.note.ready

    @property
    def is_whole(self) -> bool:
        """Whether the edge can still connect and the instance can still write. Both need names that somebody may
        have removed: the socket's, and the writable folder's, which a new folder could not replace."""
        return self.endpoint.is_whole and (self.note.uid is not None or Path(self.scratch).is_dir())

    # -- its start

    def forked(self, process: Watched, sandbox: str, *, asks: bool = False) -> None:
        """Record the process that will become the instance. `asks`: its forks wait for an answer."""
        self.process, self.condemned = process, ""
        pid, started = process.pid, process.started
        self.note = replace(self.note, pid=pid, pid_start=started, ready=False, sandbox=sandbox, asks=asks)
        notes.write(self.note_path, self.note)

    def expect_ready(self) -> None:
        """Prepare the ready note while the process starts, so that the write does not delay the first request."""
        self._ready_note = replace(self.note, ready=True, started_at=time.time())
        notes.prepare(self.note_path, self._ready_note)

    def became_ready(self, began: object, loaded: object) -> None:
        """Record that the instance serves, and how long its start took; `began` and `loaded` as for `took_by`."""
        self.ready_at = time.monotonic()
        self.took = took_by(self.took.slot, self.ordered_at, began, loaded, self.ready_at)
        self.endpoint.became_ready(self.note.pid)
        assert self._ready_note is not None
        self.note = self._ready_note
        notes.put_in_place(self.note_path)

    def order(self) -> Launch:
        """The launch to send to the fork: its environment includes the endpoint's variables."""
        launch, variables = self.note.launch, self.endpoint.variables
        return replace(launch, env={**launch.env, **variables}) if variables else launch

    def adopted(self, process: Watched) -> None:
        """Record the serving process of an instance that a dead node left behind."""
        self.process = process
        self.ready_at = time.monotonic()

    # -- its life and its end

    def running(self) -> RunningInstance:
        """The instance as the controller sees it."""
        note = self.note
        uid = os.geteuid() if note.uid is None else note.uid
        return RunningInstance(note.launch, note.pid, uid, note.address, note.started_at, self.took)

    def stop_serving(self) -> float:
        """Remove it from the serving instances; return for how many seconds it served."""
        seconds, self.ready_at = time.monotonic() - self.ready_at, 0.0
        return seconds

    def put_away(self) -> None:
        """Close and remove everything but the processes."""
        self.gone = True
        self.endpoint.put_away()
        if self.process is not None:
            self.process.close()
        self.output.close()
        if self.note.uid is None:  # with a uid of its own, the folder is in the instance's mounts and ends with them
            shutil.rmtree(self.scratch, ignore_errors=True)
        notes.remove(self.note_path)
