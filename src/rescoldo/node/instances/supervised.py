"""One instance as the node holds it: its socket, its output, its note and its process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import stat
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rescoldo.isolation.syscalls import take_descriptor
from rescoldo.model.coldstart import NO_TIME, StartTimes, took_by
from rescoldo.model.instance import Launch, RunningInstance
from rescoldo.model.settings import EDGE_UID
from rescoldo.node.instances import notes
from rescoldo.node.instances.notes import Note
from rescoldo.node.instances.processes import Watched
from rescoldo.node.output.output import Output
from rescoldo.node.protocol import BundleHere
from rescoldo.node.sockets.addresses import remove_socket, socket_path
from rescoldo.node.sockets.program_socket import ProgramSocket

_BACKLOG = 1024  # connections that wait while an instance starts or is replaced


@dataclass(slots=True)
class Supervised:
    """An instance from the request to start it until nothing of it is left."""

    note: Note
    note_path: Path
    output: Output
    listener: socket.socket | None  # None: its program has bound TCP; or adopted, its first node held it
    scratch: str  # folder it may write to
    berth: ProgramSocket | None = None  # where its program is to bind a Unix socket
    stand_in: socket.socket | None = None  # listens where the edge is led while nobody does at its program's TCP port
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
    def was_ready(self) -> bool:
        """Whether it has served before, so that a start replaces a process that ended."""
        return self.ready_at > 0

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
    def path(self) -> str:
        """Of the Unix socket that the edge connects to."""
        return str(socket_path(self.note.address))

    @property
    def backlog(self) -> socket.socket | None:
        """The socket of the node's in which requests wait while no process takes them."""
        return self.stand_in if self.listener is None else self.listener

    @property
    def backlog_address(self) -> str:
        """Where `backlog` listens."""
        return self.note.address if self.stand_in is None else "{}:{}".format(*self.stand_in.getsockname())

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
        self.hold_listener()
        assert self._ready_note is not None
        self.note = self._ready_note
        notes.put_in_place(self.note_path)

    def hold_listener(self) -> None:
        """Hold the Unix socket that the program has bound: should it end, requests wait in it rather than fail, until
        the edge has been told."""
        if self.berth is not None:
            self.listener = regain_listener(self.note.pid, f"unix@{self.berth.shown}")

    @property
    def is_whole(self) -> bool:
        """Whether the edge can still connect and the instance can write: nobody has removed its socket's name, or the
        folder it may write to, which no new one could replace."""
        path = socket_path(self.note.address)
        return (path is None or path.is_socket()) and (self.note.uid is not None or Path(self.scratch).is_dir())

    def open_for_child(self) -> int:
        """A descriptor of what the instance takes requests with: the listener, or the folder in which it is to bind a
        Unix socket, or nothing (/dev/null). To be closed."""
        if self.listener is not None:
            return os.dup(self.listener.fileno())
        if self.berth is not None:
            return self.berth.open()
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def order(self) -> Launch:
        """What the zygote is to launch."""
        launch = self.note.launch
        return replace(launch, env={**launch.env, "SOCKET": self.berth.shown}) if self.berth else launch

    def running(self) -> RunningInstance:
        """What the controller knows of it."""
        note = self.note
        uid = os.geteuid() if note.uid is None else note.uid
        return RunningInstance(note.launch, note.pid, uid, note.address, note.started_at, self.took)

    def put_away(self) -> None:
        """Close and remove everything but the processes."""
        self.gone = True
        if self.listener is not None:
            self.listener.close()
            self.listener = None
        if self.stand_in is not None:
            self.stand_in.close()
            self.stand_in = None
        remove_socket(self.note.address)
        if self.berth is not None:
            self.berth.remove()
        if self.process is not None:
            self.process.close()
        self.output.close()
        if self.note.uid is None:  # elsewhere it ends with the instance's mounts
            shutil.rmtree(self.scratch, ignore_errors=True)
        notes.remove(self.note_path)


def listen(address: str, privileged: bool) -> socket.socket:
    """A listening Unix socket at `address` that only the edge (or, without privileges, this user) may connect to."""
    path = socket_path(address)
    assert path is not None
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        path.chmod(0o600)
        if privileged:
            os.chown(path, EDGE_UID, EDGE_UID)
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def open_stand_in(host: str, port: int) -> socket.socket:
    """A listening socket for requests that find nobody at a program's `port`. Raises OSError."""
    try:
        return socket.create_server((host, port), backlog=_BACKLOG)
    except OSError as error:
        number = error.errno or 0
        text = f"port {port} at {host}, for requests while the program does not listen: {os.strerror(number)}"
        raise OSError(number, text) from error


def regain_output(pid: int, number: int) -> int | None:
    """The FIFO that an instance has as descriptor `number`, whose name was removed, opened anew; None where we may not
    look into the instance, or it prints elsewhere."""
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return None
    try:
        taken = take_descriptor(pidfd, number)
        try:
            if stat.S_ISFIFO(os.fstat(taken).st_mode):
                return os.open(f"/proc/self/fd/{taken}", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        finally:
            os.close(taken)
    except OSError:
        pass
    finally:
        os.close(pidfd)
    return None


def regain_listener(pid: int, address: str) -> socket.socket | None:
    """The listening Unix socket at `address`, taken back from the instance that inherited it from a dead node; None
    where we may not look into it (an unprivileged platform), or when it has closed it."""
    path = socket_path(address)
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return None
    try:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):  # closed since it was listed
                if (found := _listener(pidfd, link, str(path))) is not None:
                    return found
    except OSError:
        pass
    finally:
        os.close(pidfd)
    return None


def _listener(pidfd: int, link: Path, path: str) -> socket.socket | None:
    """The descriptor `link` (of /proc/PID/fd) of the process behind `pidfd`, if it listens at `path`."""
    if not str(link.readlink()).startswith("socket:"):
        return None
    candidate = socket.socket(fileno=take_descriptor(pidfd, int(link.name)))
    if candidate.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) and candidate.getsockname() == path:
        return candidate
    candidate.close()
    return None
