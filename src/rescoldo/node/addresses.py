"""Where instances take requests: "unix@PATH" or "IP:PORT", as HAProxy writes them."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from pathlib import Path

from rescoldo.model.errors import StartFailed
from rescoldo.model.instance import Launch
from rescoldo.model.program import UNIX
from rescoldo.model.settings import Settings
from rescoldo.node.berths import PUBLIC
from rescoldo.node.probe import accepts

SHARED = "127.0.0.1"  # where programs bind that have no loopback address of their own


def address_of(settings: Settings, launch: Launch, host: str) -> str:
    """The address of an instance whose TCP ports are at `host`."""
    if launch.port:
        return f"{host}:{launch.port}"
    if launch.upstream == UNIX:
        return f"unix@{settings.berths / launch.instance}/{PUBLIC}"
    return f"unix@{settings.instances / launch.instance}.sock"


def socket_path(address: str) -> Path | None:
    """The path in "unix@PATH"; None for a TCP address."""
    kind, _, path = address.partition("@")
    return Path(path) if kind == "unix" else None


def remove_socket(address: str) -> None:
    """Remove the Unix socket at `address`, if it is one and is there."""
    if (path := socket_path(address)) is not None:
        path.unlink(missing_ok=True)


def check_free(launch: Launch, address: str, others: Iterable[str]) -> None:
    """Raise StartFailed when a program could not bind its port at `address`: it would seem to be ready, and its
    requests would reach somebody else. `others` are the addresses of this node's instances."""
    if not launch.port:
        return
    host = address.rpartition(":")[0]
    if address in others:
        raise StartFailed(
            f"{launch.function}: another instance has port {launch.port}, and all programs share {SHARED} here (the "
            "network fence is not up: it needs root and Linux 5.12 with cgroup v2): give each function a port of its "
            "own and one instance, or use `upstream_url: inherited`"
        )
    if accepts(socket.AF_INET, (host, launch.port)):
        raise StartFailed(
            f"{launch.function}: port {launch.port} is taken by a process of this machine that listens on it at "
            f"{host} or at all addresses; choose another port in upstream_url, or end that process"
        )
