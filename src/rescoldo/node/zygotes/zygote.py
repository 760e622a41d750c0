"""The node's end of a zygote: keeps one running, and requests forks.

The node replaces a dead zygote at once, or after a pause if it died before it was ready. Starts repeat their
unanswered requests once, with the next zygote. Spares and instances outlive the zygote that forked them.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import subprocess
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from rescoldo.isolation.cgroups import Base
from rescoldo.isolation.container import own_container
from rescoldo.isolation.forks import counted
from rescoldo.isolation.interpreter import (
    CLEAN_PATH,
    function_directories,
    make_environment,
    needed_directories,
    platform_directories,
    platform_path,
    python_command,
)
from rescoldo.isolation.level import level
from rescoldo.kinds.protocol import BARE, WARM
from rescoldo.model.errors import NodeUnavailable
from rescoldo.model.settings import Settings
from rescoldo.node.processes.processes import Ends, Watched
from rescoldo.node.sockets.gateway import GatewayAccess
from rescoldo.tasks import set_within

_LOG = logging.getLogger(__name__)
PROCESS_NAMES = {WARM: "rescoldo-zyg", BARE: "rescoldo-bare"}  # as `ps` shows them

# In a container without cgroups of its own, instances have a tenth of the weight of the platform's processes. Else the
# node would get a processor 20 to 60 ms late, and up to 130, when eight instances or threads want all of them: too late
# for the memory watch, and for every call. Spares have that weight from the start, so that wakes go first.
INSTANCE_NICE = 10

_REPLY = 65536  # bytes; an answer is far shorter
_FORK_PATIENCE = 5  # seconds, about, for a ready zygote to fork: it takes a few milliseconds
_READY_PATIENCE = 30.0  # seconds for a zygote to import everything on a busy machine
_PAUSES = (0.0, 0.1, 0.5, 2.0)  # seconds before the next attempt, by failures in a row; the last repeats


class ZygoteGone(Exception):
    """The zygote ended before it answered."""


@dataclass(frozen=True, slots=True)
class Forked:
    """A child that the zygote forked."""

    pid: int
    pidfd: int
    channel: socket.socket  # takes its order; closing it without an order ends the child
    sandbox: str  # name of its sandbox; empty where there is none


class Zygote:
    """Keeps a zygote process running, WARM or BARE by its name. `ends` receives the wait statuses of its children."""

    def __init__(
        self, settings: Settings, ends: Ends, base: Base | None, gateway: GatewayAccess | None, name: str
    ) -> None:
        self._settings = settings
        self._gateway = gateway
        self._base = base
        self._ends = ends
        self._name = name
        self._ready = asyncio.Event()
        self._control: socket.socket | None = None
        self._pending: dict[int, asyncio.Future[Forked]] = {}
        self._next = 0
        self._lived = False  # the present zygote has been ready
        self.process: Watched | None = None
        self.pid = 0

    @property
    def is_ready(self) -> bool:
        """Whether the zygote is ready to fork."""
        return self._ready.is_set()

    async def keep_running(self, on_end: Callable[[int], Awaitable[None]]) -> None:
        """Start a zygote, and another whenever it ends, until cancelled; that ends it. `on_end` receives the pid of
        each ended zygote."""
        failures = 0
        while True:
            await asyncio.sleep(_PAUSES[min(failures, len(_PAUSES) - 1)])
            try:
                was_ready = await self._live()
            finally:
                await on_end(self.pid)
            failures = 0 if was_ready else failures + 1
            _LOG.warning("the zygote ended%s; starting another", "" if was_ready else " before it was ready")

    async def _live(self) -> bool:
        """Run one zygote until its end; return whether it was ever ready."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        with theirs:
            process = self._spawn(theirs)
        self.pid = process.pid
        self._ends.expect(process.pid)
        watched = self.process = Watched(process.pid, os.pidfd_open(process.pid))
        loop = asyncio.get_running_loop()
        loop.add_reader(ours, self._on_message, ours)
        self._control = ours
        self._lived = False
        try:
            await watched.ended.wait()
            # Read its last messages: a child whose pid nobody reads would be an orphan.
            self._on_message(ours)
            return self._lived
        finally:
            loop.remove_reader(ours)
            self._control = None
            ours.close()
            self._ready.clear()
            await self._bury(process, watched)

    async def _bury(self, process: subprocess.Popen[bytes], watched: Watched) -> None:
        for future in self._pending.values():
            if not future.done():
                future.set_exception(ZygoteGone())
        self._pending.clear()
        if not watched.ended.is_set():
            process.send_signal(signal.SIGKILL)  # it holds nothing that an orderly end would save
            await watched.ended.wait()
        watched.close()
        process.returncode = await self._ends.take(process.pid) or 0

    def _spawn(self, theirs: socket.socket) -> subprocess.Popen[bytes]:
        python = make_environment(self._settings.environment)
        needed = function_directories(self._settings.environment)
        order = {
            "control": theirs.fileno(),
            "bundles": str(self._settings.bundles),
            "read": [*needed_directories(), *needed],
            "needed": needed,
            "path": platform_path(),
            "hidden": platform_directories(),
            "full": level() == "full",
            "asks": counted(),
            "cgroups": asdict(self._base) if self._base else None,
            "names": {self._gateway.address: self._gateway.names} if self._gateway else {},
            "variables": dict(self._gateway.variables) if self._gateway else {},
            "nice": INSTANCE_NICE if self._base is None and own_container().memory().contained else 0,
            "zygote": self._name,
            "process": PROCESS_NAMES[self._name],
        }
        return subprocess.Popen(
            python_command("rescoldo.kinds.zygote", json.dumps(order), python=python),
            env={"PATH": CLEAN_PATH, "LANG": "C.UTF-8", "HOME": "/tmp"},
            cwd="/",
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,  # keeps a Ctrl-C at the terminal away from it
        )

    async def fork(self, *, urgent: bool, unwanted: Callable[[Forked], None], folder: int | None = None) -> Forked:
        """Request a fork; an `urgent` fork does no work in advance. `folder`: descriptor of the folder in which its
        program will bind a Unix socket. `unwanted` receives the fork if the caller was cancelled meanwhile. Raises
        ZygoteGone, and NodeUnavailable when no zygote gets ready."""
        if not await set_within(self._ready, _READY_PATIENCE):
            raise NodeUnavailable("the zygote does not get ready; see the platform's log")
        self._next += 1
        number = self._next
        request = json.dumps({"id": number, "urgent": urgent}).encode()
        future = self._pending[number] = asyncio.get_running_loop().create_future()
        try:
            await self._send(request, [] if folder is None else [folder])
        except BaseException:  # the request was not sent
            self._pending.pop(number, None)
            future.cancel()
            raise
        try:
            return await self._answer(future)
        except asyncio.CancelledError:
            future.add_done_callback(partial(_hand_over, unwanted))
            raise

    async def _answer(self, future: asyncio.Future[Forked]) -> Forked:
        """Wait for the answer; kill a zygote that does not answer, so that the request fails with ZygoteGone and
        `Boot` asks the next zygote."""
        # in slices: one long timeout would expire after a stop (SIGSTOP) of this process itself
        for _ in range(_FORK_PATIENCE):
            await asyncio.wait({future}, timeout=1.0)
            if future.done():
                break
        else:
            _LOG.warning("the zygote did not answer for %d s; killing it", _FORK_PATIENCE)
            if self.process is not None:
                self.process.kill()
        return await asyncio.shield(future)

    async def _send(self, request: bytes, descriptors: Sequence[int]) -> None:
        while self._control is not None:
            try:
                socket.send_fds(self._control, [request], descriptors)
                return
            except BlockingIOError:
                await asyncio.sleep(0.001)  # the socket is full of requests; the zygote reads on
            except ConnectionError:
                self._ready.clear()  # its end is not noticed yet; the next request waits for its successor
                break
        raise ZygoteGone

    def _on_message(self, control: socket.socket) -> None:
        while True:
            try:
                message, descriptors, _, _ = socket.recv_fds(control, _REPLY, 2, socket.MSG_CMSG_CLOEXEC)
            except (BlockingIOError, ConnectionError):
                return
            if not message:
                # The zygote has closed its end and is ending; its pidfd reports the end. Until then, do not spin.
                asyncio.get_running_loop().remove_reader(control)
                return
            self._take(json.loads(message), descriptors)

    def _take(self, message: dict[str, Any], descriptors: list[int]) -> None:
        if "exited" in message:
            self._ends.record(message["exited"], message["status"])
        elif "ready" in message:
            self._lived = True
            self._ready.set()
        else:
            future = self._pending.pop(message["id"])
            if "error" in message:
                future.set_exception(NodeUnavailable(message["error"]))
                return
            self._ends.expect(message["pid"])
            pidfd, channel = descriptors
            forked = Forked(message["pid"], pidfd, socket.socket(fileno=channel), message["sandbox"])
            forked.channel.setblocking(False)
            future.set_result(forked)


def _hand_over(unwanted: Callable[[Forked], None], future: asyncio.Future[Forked]) -> None:
    """Pass on the fork of a start that was cancelled before the zygote answered."""
    if not future.cancelled() and future.exception() is None:
        unwanted(future.result())
