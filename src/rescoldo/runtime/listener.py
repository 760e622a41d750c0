"""The listening socket of an instance. The node holds it, too; the function can close it like any descriptor."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable

BACKLOG = 1024  # the node listens with it; asyncio calls listen once more


class Listener:
    """Accepts connections until it is closed."""

    __slots__ = ("_descriptor", "_inode", "_server")

    def __init__(self, listener: socket.socket, server: asyncio.Server) -> None:
        self._descriptor = listener.fileno()
        self._inode = os.fstat(self._descriptor).st_ino
        self._server = server

    def is_open(self) -> bool:
        """Whether the socket is open. After a close its number may belong to another file."""
        try:
            return os.fstat(self._descriptor).st_ino == self._inode
        except OSError:
            return False

    def close(self) -> None:
        """Accept no more. Never closes another file with the same number."""
        if self.is_open():
            self._server.close()


async def listen(
    loop: asyncio.AbstractEventLoop, listener: socket.socket, connection: Callable[[], asyncio.Protocol]
) -> Listener:
    """Accept on `listener`; each client gets a new `connection`."""
    # create_server rather than create_unix_server: since 3.13 the latter removes the path at the end, but the socket
    # belongs to the node and the next instance.
    return Listener(listener, await loop.create_server(connection, sock=listener, backlog=BACKLOG))
