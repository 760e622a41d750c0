"""A Unix socket that the node binds and passes to the process: for handlers, and for programs that inherit it.

The node keeps it open, too. So requests wait in it while a process starts, ends or is replaced.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path

from rescoldo.model.ids import EDGE_UID
from rescoldo.node.sockets.endpoint import BACKLOG, Neighbour
from rescoldo.node.sockets.probe import is_ready
from rescoldo.node.sockets.regain import regain_listener


class GivenSocket:
    """Implements `Endpoint`. Only the edge may connect (or its user, where the platform is not `privileged`)."""

    tcp: tuple[str, int] | None = None
    variables: Mapping[str, str] = {}
    foreseen = True
    gives_folder = False

    def __init__(self, path: Path, *, privileged: bool) -> None:
        self.path = path
        self._privileged = privileged
        self.backlog: socket.socket | None = None  # None: adopted, and not regained from its process

    @property
    def address(self) -> str:
        return f"unix@{self.path}"

    @property
    def backlog_address(self) -> str:
        return self.address

    @property
    def replaceable(self) -> bool:
        return self.backlog is not None

    @property
    def is_whole(self) -> bool:
        return self.path.is_socket()

    def leavers(self, others: Iterable[Neighbour], *, successor: bool) -> list[Neighbour]:
        return []

    def make(self) -> None:
        self.path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(str(self.path))
            self.path.chmod(0o600)
            if self._privileged:
                os.chown(self.path, EDGE_UID, EDGE_UID)
            listener.listen(BACKLOG)
        except OSError:
            listener.close()
            self.path.unlink(missing_ok=True)
            raise
        self.backlog = listener

    async def take_over(self, leavers: list[Neighbour]) -> float:
        return 0.0

    def open_for_child(self) -> int:
        assert self.backlog is not None
        return os.dup(self.backlog.fileno())

    def probing(self) -> contextlib.closing[_InheritedProbe]:
        assert self.backlog is not None
        return contextlib.closing(_InheritedProbe(self.backlog))

    def became_ready(self, pid: int) -> None:
        """Do nothing: the node holds the socket already."""

    def adopt(self, pid: int) -> None:
        self.backlog = regain_listener(pid, str(self.path))

    def renew(self) -> bool:
        self.make()
        return False

    def put_away(self) -> None:
        if self.backlog is not None:
            self.backlog.close()
            self.backlog = None
        self.path.unlink(missing_ok=True)


class _InheritedProbe:
    """Probes whether a program accepts on a Unix socket that it inherited. The probe puts one connection into the
    socket's backlog. The program is ready when the backlog is empty, or when it has ended that connection."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._connection.setblocking(False)
        self._connected = False
        with contextlib.suppress(OSError):  # a full backlog: the program is ready once it has emptied it
            self._connection.connect(listener.getsockname())
            self._connection.shutdown(socket.SHUT_WR)  # a program that accepts it reads end of file, and ends it
            self._connected = True

    def __call__(self) -> bool:
        if not is_ready(self._listener, select.POLLIN):
            return True
        return self._connected and is_ready(self._connection, select.POLLIN)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
