"""Where instances take requests: "unix@PATH" or "IP:PORT", as HAProxy writes them."""

from __future__ import annotations

from pathlib import Path

from rescoldo.model.instance import Launch
from rescoldo.model.program import UNIX
from rescoldo.model.settings import Settings
from rescoldo.node.sockets.program_socket import PUBLIC

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


def tcp_address(address: str) -> tuple[str, int] | None:
    """Host and port in "IP:PORT"; None for a Unix socket."""
    if socket_path(address) is not None:
        return None
    host, _, port = address.rpartition(":")
    return host, int(port)
