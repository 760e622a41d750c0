"""Detects instances that stop taking requests: a function can shut down its listening socket, or close it. (For
programs at TCP ports see program_port.py: the node does not have their sockets.)

The node holds each of these sockets, too. A socket that is shut down refuses connections, and the kernel tells the
node at once. A socket that only the function has closed stays whole: requests wait in it for ever. The sign of that
is waiting requests while no process of the instance has the socket. The node looks for waiting requests every
LOOK_SECONDS, with one system call for all instances. A connection that is accepted at once does not wake the node.
"""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from rescoldo.tasks import Tasks

LOOK_SECONDS = 0.25
_WAITED = 2  # looks in a row with waiting requests, before the node asks who has the socket
_ASK_AGAIN = 20  # looks until it asks again: an instance that is only busy has the socket

OnWaiting = Callable[[], Coroutine[Any, Any, None]]


@dataclass(slots=True)
class _Listener:
    on_shut: Callable[[], None]
    on_waiting: OnWaiting
    waited: int = 0  # looks in a row with waiting requests


class Listeners:
    """Watches the listening sockets of all instances of a node."""

    def __init__(self, tasks: Tasks) -> None:
        # Two sets: the event loop watches only `_shut`, so that connections do not wake it.
        self._waiting = select.epoll()
        self._shut = select.epoll()
        asyncio.get_running_loop().add_reader(self._shut, self._tell_shut)
        self._all: dict[int, _Listener] = {}
        self._tasks = tasks

    def add(self, listener: socket.socket, on_shut: Callable[[], None], on_waiting: OnWaiting) -> None:
        """Watch `listener` until `remove`. `on_shut`: it takes no more connections, and the callee must remove it.
        `on_waiting`: requests have waited in it for a while."""
        descriptor = listener.fileno()
        self._all[descriptor] = _Listener(on_shut, on_waiting)
        self._waiting.register(descriptor, select.EPOLLIN)
        self._shut.register(descriptor, select.EPOLLRDHUP)

    def remove(self, listener: socket.socket) -> None:
        """Stop watching `listener`; call it before closing the socket. An unknown socket is no error."""
        if self._all.pop(listener.fileno(), None) is not None:
            self._waiting.unregister(listener)
            self._shut.unregister(listener)

    def begin_anew(self, listener: socket.socket) -> None:
        """Reset the count of `listener` for a new process: earlier waits say nothing about it."""
        if (found := self._all.get(listener.fileno())) is not None:
            found.waited = 0

    async def watch(self) -> None:
        """Look every LOOK_SECONDS until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self.look()

    def look(self) -> None:
        """Ask the kernel where requests wait."""
        waiting = {descriptor for descriptor, _ in self._waiting.poll(0)}
        for descriptor, found in self._all.items():
            found.waited = found.waited + 1 if descriptor in waiting else 0
            if found.waited % _ASK_AGAIN == _WAITED:
                self._tasks.spawn("ask who has a listening socket", found.on_waiting())

    def _tell_shut(self) -> None:
        for descriptor, _ in self._shut.poll(0):
            self._all[descriptor].on_shut()

    def close(self) -> None:
        """Stop watching."""
        asyncio.get_running_loop().remove_reader(self._shut)
        self._shut.close()
        self._waiting.close()


def is_shut(listener: socket.socket) -> bool:
    """Whether `listener` has been shut down."""
    poll = select.poll()
    poll.register(listener, select.POLLRDHUP)
    return bool(poll.poll(0))
