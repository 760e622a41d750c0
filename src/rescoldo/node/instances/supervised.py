"""One instance as the node holds it: its endpoint, its output, its note and its process."""

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
    """An instance from the request to start it until nothing of it is left; a `Neighbour` to others' endpoints."""

    note: Note
    note_path: Path
    output: Output
    endpoint: Endpoint
    scratch: str  # folder it may write to
    bundle: BundleHere | None = None  # found at each start
    process: Watched | None = None
    ready_at: float = 0.0  # seconds on the monotonic clock
    ordered_at: float = 0.0  # the same: when a process was to become it
    waited: float = 0.0  # seconds of its ready timeout, for its TCP port
    took: StartTimes = NO_TIME  # what its start took
    gone: bool = False  # nothing of it is left
    swept: bool = True  # no process of its uid is left, as far as is known
    task: asyncio.Task[Any] | None = None  # boots it, then waits for its end
    ending: asyncio.Task[None] | None = None  # it is being stopped
    _ready_note: Note | None = None  # of the process that starts

    @property
    def function(self) -> FunctionId:
        return self.note.launch.function

    @property
    def address(self) -> str:
        return self.note.address

    @property
    def was_ready(self) -> bool:
        """Whether it has served before, so that a start replaces a process that ended."""
        return self.ready_at > 0

    @property
    def serves(self) -> bool:
        """Whether it is ready, or was and is being replaced; and nobody stops it."""
        return self.was_ready and self.ending is None

    @property
    def is_leaving(self) -> bool:
        """Whether it takes no more requests: it is being stopped, has ended, or is lost."""
        ended = self.process is None or not self.process.is_alive()
        return self.ending is not None or (self.note.ready and (ended or not self.was_ready))

    @property
    def may_listen(self) -> bool:
        """Whether a process of it may be there, or come yet."""
        return not self.gone and (self.process is not None or not self.note.ready)

    @property
    def may_bind_yet(self) -> bool:
        """Whether it starts, even if it is being stopped: it may bind its socket later."""
        return self.may_listen and not self.note.ready

    @property
    def is_whole(self) -> bool:
        """Whether the edge can still connect and the instance can write: nobody has removed its socket's name, or the
        folder it may write to, which no new one could replace."""
        return self.endpoint.is_whole and (self.note.uid is not None or Path(self.scratch).is_dir())

    # -- its start

    def forked(self, process: Watched, sandbox: str) -> None:
        """Remember the process that is to become the instance."""
        self.process = process
        self.note = replace(self.note, pid=process.pid, pid_start=process.started, ready=False, sandbox=sandbox)
        notes.write(self.note_path, self.note)

    def expect_ready(self) -> None:
        """Prepare the note that says it is ready, while it starts: who waits for it need not wait for that."""
        self._ready_note = replace(self.note, ready=True, started_at=time.time())
        notes.prepare(self.note_path, self._ready_note)

    def became_ready(self, began: object, loaded: object) -> None:
        """Remember that the instance serves, and what its start took; `began` and `loaded` as for `took_by`."""
        self.ready_at = time.monotonic()
        self.took = took_by(self.took.slot, self.ordered_at, began, loaded, self.ready_at)
        self.endpoint.became_ready(self.note.pid)
        assert self._ready_note is not None
        self.note = self._ready_note
        notes.put_in_place(self.note_path)

    def order(self) -> Launch:
        """What the zygote is to launch."""
        launch, variables = self.note.launch, self.endpoint.variables
        return replace(launch, env={**launch.env, **variables}) if variables else launch

    def adopted(self, process: Watched) -> None:
        """A dead node has left it: it serves."""
        self.process = process
        self.ready_at = time.monotonic()

    # -- its life and its end

    def running(self) -> RunningInstance:
        """What the controller knows of it."""
        note = self.note
        uid = os.geteuid() if note.uid is None else note.uid
        return RunningInstance(note.launch, note.pid, uid, note.address, note.started_at, self.took)

    def stop_serving(self) -> float:
        """It is not among the instances that serve any more; return for how many seconds it did."""
        seconds, self.ready_at = time.monotonic() - self.ready_at, 0.0
        return seconds

    def put_away(self) -> None:
        """Close and remove everything but the processes."""
        self.gone = True
        self.endpoint.put_away()
        if self.process is not None:
            self.process.close()
        self.output.close()
        if self.note.uid is None:  # elsewhere it ends with the instance's mounts
            shutil.rmtree(self.scratch, ignore_errors=True)
        notes.remove(self.note_path)
