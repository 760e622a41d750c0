"""Listening sockets that outlive the processes that serve them.

The platform binds them once, at its start; the supervisor passes the same sockets to each new child, by descriptor
number in the environment. A connection made while the child is away waits in the backlog.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path

from rescoldo.model.ids import EDGE_UID
from rescoldo.model.settings import Settings

# name of a Unix socket: the child that accepts on it
ACCEPTED_BY = {"wake": "controller", "api": "controller", "log": "controller", "node": "node"}
BACKLOG = 4096  # connections; the kernel caps it at net.core.somaxconn


def paths_between_parts(settings: Settings) -> dict[str, Path]:
    """The Unix sockets of ACCEPTED_BY, by name."""
    return {
        "wake": settings.wake_socket,
        "api": settings.api_socket,
        "log": settings.log_socket,
        "node": settings.node_socket,
    }


def listen_between_parts(settings: Settings, names: Iterable[str] = tuple(ACCEPTED_BY)) -> dict[str, socket.socket]:
    """Listen on the sockets in `names`; the edge's user may reach all but the node's. Raises OSError."""
    paths = paths_between_parts(settings)
    return {name: bind(paths[name], for_edge=name != "node") for name in names}


def bind(path: Path, *, for_edge: bool) -> socket.socket:
    """Listen on a Unix socket; `for_edge` gives it to the edge's user (where we are root)."""
    path.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.bind(str(path))
    path.chmod(0o600)
    if for_edge and os.geteuid() == 0:
        os.chown(path, EDGE_UID, EDGE_UID)
    sock.listen(BACKLOG)
    return sock


def bind_address(address: str) -> socket.socket:
    """Listen on HOST:PORT."""
    host, _, port = address.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((host.strip("[]"), int(port)))
    sock.listen(BACKLOG)
    return sock


def edge_environment(gates: Mapping[str, int]) -> dict[str, str]:
    """Environment variables that give the edge's configuration the sockets to accept on."""
    return {f"RESCOLDO_{name.upper()}": f"fd@{number}" for name, number in gates.items()}
