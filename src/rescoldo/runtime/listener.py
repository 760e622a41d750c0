"""The listening socket of an instance. It is the node's, too, and the function may close it as any other descriptor."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable

BACKLOG = 1024  # what the node listens with; asyncio listens once more


class Listener:
    """Accepts connections until it is closed."""

    __slots__ = ("_descriptor", "_inode", "_server")

    def __init__(self, listener: socket.socket, server: asyncio.Server) -> None:
        self._descriptor = listener.fileno()
        self._inode = os.fstat(self._descriptor).st_ino
        self._server = server

    def is_open(self) -> bool:
        """Whether the socket is open. Its number may be another file's by now."""
        try:
            return os.fstat(self._descriptor).st_ino == self._inode
        except OSError:
            return False

    def close(self) -> None:
        """Accept no more; never close another file in its place."""
        if self.is_open():
            self._server.close()


async def listen(
    loop: asyncio.AbstractEventLoop, listener: socket.socket, connection: Callable[[], asyncio.Protocol]
) -> Listener:
    """Accept on `listener`; each client gets a new `connection`."""
    # create_server and not create_unix_server: from 3.13 on the latter removes the path at the end,
    # but the socket is the node's and the next instance's.
    return Listener(listener, await loop.create_server(connection, sock=listener, backlog=BACKLOG))
