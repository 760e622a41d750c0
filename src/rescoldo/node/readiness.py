"""When a program that has been exec'd takes requests: as soon as a connection to it succeeds.

A program says nothing of itself, so it is asked, by connecting to it: a try costs some 50 µs, and the pauses between
two grow, so that many slow starters at once cost little.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
from collections.abc import Callable, Iterator

from rescoldo.node.addresses import socket_path
from rescoldo.node.probe import accepts, is_ready
from rescoldo.node.supervised import Supervised

FIRST_PAUSE = 0.0005  # seconds between two tries
LONGEST_PAUSE = 0.01
_GROWTH = 1.15  # the longest pause is reached after about 80 ms

Probe = Callable[[], bool]


async def until_accepting(instance: Supervised) -> bool:
    """Return True once the instance's program takes requests, False when its process has ended before."""
    assert instance.process is not None
    pause = FIRST_PAUSE
    with _probing(instance) as accepting:
        while not instance.process.ended.is_set():
            if accepting():
                return True
            await asyncio.sleep(pause)
            pause = min(pause * _GROWTH, LONGEST_PAUSE)
    return False


@contextlib.contextmanager
def _probing(instance: Supervised) -> Iterator[Probe]:
    path = socket_path(instance.note.address)
    if path is None:
        host, _, port = instance.note.address.rpartition(":")
        yield lambda: accepts(socket.AF_INET, (host, int(port)))
    elif instance.berth is not None:
        yield instance.berth.accepts
    else:
        assert instance.listener is not None
        with contextlib.closing(InheritedProbe(instance.listener)) as probe:
            yield probe


class InheritedProbe:
    """Whether a program accepts on a listening Unix socket that it was given: one connection waits in the socket's
    backlog, and it is ready when the backlog is empty or when it has ended that connection."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._connection.setblocking(False)
        self._connected = False
        with contextlib.suppress(OSError):  # a full backlog: then it is its being emptied that is waited for
            self._connection.connect(listener.getsockname())
            self._connection.shutdown(socket.SHUT_WR)
            self._connected = True

    def __call__(self) -> bool:
        if not is_ready(self._listener, select.POLLIN):
            return True
        return self._connected and is_ready(self._connection, select.POLLIN)

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()
