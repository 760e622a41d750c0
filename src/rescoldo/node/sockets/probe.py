"""Probes of this machine's sockets that never wait."""

from __future__ import annotations

import select
import socket


def accepts(family: socket.AddressFamily, address: tuple[str, int] | str) -> bool:
    """Whether a connection to `address` on this machine succeeds."""
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.setblocking(False)
        try:
            client.connect(address)
        except BlockingIOError:
            # loopback has answered by now; only a full backlog has not
            return is_ready(client, select.POLLOUT) and not client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        except OSError:
            return False
        return True


def is_free(address: tuple[str, int]) -> bool:
    """Whether the TCP port `address` has no listener. The probe binds the port for a moment; unlike a connection,
    that does not disturb a listener."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # ended connections (TIME_WAIT) do not count
            server.bind(address)
    except OSError:
        return False
    return True


def is_ready(asked: socket.socket, event: int) -> bool:
    """Whether `event` (as for poll(2)) or the end of the connection has come."""
    poll = select.poll()  # select(2) accepts no descriptors above 1023
    poll.register(asked, event)
    return bool(poll.poll(0))
