"""Addresses at which instances take requests: "unix@PATH" or "IP:PORT", as HAProxy writes them."""

from __future__ import annotations

from pathlib import Path

SHARED = "127.0.0.1"  # the address of programs without a loopback address of their own


def socket_path(address: str) -> Path | None:
    """The path in "unix@PATH"; None for a TCP address."""
    kind, _, path = address.partition("@")
    return Path(path) if kind == "unix" else None


def remove_socket(address: str) -> None:
    """Remove the Unix socket at `address`; nothing happens for a TCP address or a missing socket."""
    if (path := socket_path(address)) is not None:
        path.unlink(missing_ok=True)


def tcp_address(address: str) -> tuple[str, int] | None:
    """Host and port in "IP:PORT"; None for a Unix socket."""
    if socket_path(address) is not None:
        return None
    host, _, port = address.rpartition(":")
    return host, int(port)
