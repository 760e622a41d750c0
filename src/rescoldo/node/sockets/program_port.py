"""TCP ports that programs bind: a start waits until its port is free.

Behind the network fence each instance has its own address, and the node holds a *stand-in* for it, a socket at
another address: the fence leads the edge there while the program's port has no listener. Elsewhere all programs
share 127.0.0.1. An instance can then start only when the previous one has released the port, and the previous one
may still answer calls or use its grace. There is no stand-in there, and node/instances/left_ports.py detects
programs that have left their port.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Iterable, Mapping, Sequence

from rescoldo.isolation import netfence
from rescoldo.model.errors import StartFailed, StartTimeout
from rescoldo.model.instance import Launch
from rescoldo.node.sockets.addresses import SHARED
from rescoldo.node.sockets.endpoint import BACKLOG, Neighbour, Probe
from rescoldo.node.sockets.probe import accepts, is_free

DYING_SECONDS = 0.5  # seconds for which a killed process may still hold its sockets
_FIRST_PAUSE, _LONGEST_PAUSE = 0.001, 0.02  # seconds between two polls; the pauses double

_LOG = logging.getLogger(__name__)


class ProgramPort:
    """Implements `Endpoint`, at `launch.port` of `host`. `fenced_uid`: the instance's uid, where it has private
    ports; None where it shares them."""

    variables: Mapping[str, str] = {}
    foreseen = False
    gives_folder = False
    replaceable = False  # another process would bind another socket
    is_whole = True  # a port has no removable name

    def __init__(self, launch: Launch, host: str, fenced_uid: int | None) -> None:
        self._launch = launch
        self.tcp = (host, launch.port)
        self._fenced_uid = fenced_uid
        # the stand-in; None: ports are shared, or it could not be bound at adoption
        self.backlog: socket.socket | None = None

    @property
    def address(self) -> str:
        return "{}:{}".format(*self.tcp)

    @property
    def backlog_address(self) -> str:
        assert self.backlog is not None
        return "{}:{}".format(*self.backlog.getsockname())

    def leavers(self, others: Iterable[Neighbour], *, successor: bool) -> list[Neighbour]:
        found = [other for other in others if other.address == self.address]
        for other in found:
            if not other.is_leaving and not (successor and other.function == self._launch.function):
                raise StartFailed(
                    f"{self._launch.function}: another instance has port {self._launch.port} (of {other.function}), "
                    f"and all programs share {SHARED} here (the network fence is not up: it needs root and Linux 5.15 "
                    "with cgroup v2): give each function a port of its own and one instance, or use `upstream_url: "
                    "inherited`"
                )
        return found

    def make(self) -> None:
        """Do nothing yet: `take_over` waits for the port before it opens the stand-in."""

    async def take_over(self, leavers: list[Neighbour]) -> float:
        waited = await self._until_free(leavers)
        self._open_stand_in()
        return waited

    def _open_stand_in(self) -> None:
        """Bind the stand-in, where there is a fence. Raises StartFailed."""
        if self._fenced_uid is None:
            return
        host = netfence.stand_in_of(self._fenced_uid)
        try:
            self.backlog = socket.create_server((host, self._launch.port), backlog=BACKLOG)
        except OSError as error:
            what = f"port {self._launch.port} at {host}, for requests while the program does not listen"
            raise StartFailed(
                f"{self._launch.function}: [Errno {error.errno}] {what}: {os.strerror(error.errno or 0)}"
            ) from error

    async def _until_free(self, leavers: list[Neighbour]) -> float:
        """Wait until the port is free; return the seconds waited. Raises StartFailed where a stranger listens
        there: the program would seem to be ready, and its requests would reach the stranger. Raises StartTimeout
        after the ready timeout."""
        clock = asyncio.get_running_loop().time
        begun = theirs_until = clock()
        pause = _FIRST_PAUSE
        while not self._is_free(leavers):
            if any(one.may_listen for one in leavers):
                theirs_until = clock()
                if theirs_until - begun > self._launch.ready_timeout:
                    raise StartTimeout(self._still_taken())
            elif clock() - theirs_until > DYING_SECONDS:
                self._refuse_strangers()
                break  # bound, but without a listener: the program's own error says what is wrong
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        return clock() - begun

    def _is_free(self, leavers: Sequence[Neighbour]) -> bool:
        """Whether the port is free, and no leaver may still bind it."""
        return is_free(self.tcp) and not any(one.may_bind_yet for one in leavers)

    def _still_taken(self) -> str:
        return (
            f"{self._launch.function}: the previous instance still has port {self._launch.port} after "
            f"{self._launch.ready_timeout:g} s: its calls may last for exec_timeout, and its end may take "
            "rescoldo.dev/grace; make both shorter, or use `upstream_url: inherited`"
        )

    def _refuse_strangers(self) -> None:
        if accepts(socket.AF_INET, self.tcp):
            raise StartFailed(
                f"{self._launch.function}: port {self._launch.port} is taken by a process of this machine that listens "
                f"on it at {self.tcp[0]} or at all addresses; choose another port in upstream_url, or end that process"
            )

    def open_for_child(self) -> int:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def probing(self) -> contextlib.nullcontext[Probe]:
        return contextlib.nullcontext(lambda: accepts(socket.AF_INET, self.tcp))

    def became_ready(self, pid: int) -> None:
        """Do nothing: the stand-in listens already."""

    def adopt(self, pid: int) -> None:
        try:
            self._open_stand_in()
        except StartFailed as error:
            _LOG.error("%s", error.message)

    def renew(self) -> bool:
        return False  # only the node has the stand-in, so no function can shut it down

    def put_away(self) -> None:
        if self.backlog is not None:
            self.backlog.close()
            self.backlog = None
