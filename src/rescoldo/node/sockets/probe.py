"""Asking sockets of this machine, without ever waiting."""

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
            # loopback has answered by now; what has not is a full backlog
            return is_ready(client, select.POLLOUT) and not client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        except OSError:
            return False
        return True


def is_free(address: tuple[str, int]) -> bool:
    """Whether nobody listens at the TCP port `address`. It is bound for a moment: unlike a connection, that disturbs
    nobody who listens."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that have ended do not count
            server.bind(address)
    except OSError:
        return False
    return True


def is_ready(asked: socket.socket, event: int) -> bool:
    """Whether `event` (as for poll(2)) or the connection's end has come."""
    poll = select.poll()  # select(2) knows no descriptors above 1023
    poll.register(asked, event)
    return bool(poll.poll(0))
