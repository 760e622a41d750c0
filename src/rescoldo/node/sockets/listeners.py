"""Whether instances still take what comes: a function can shut its listening socket down, or close it. (For programs at
TCP ports see ports.py: theirs the node does not have.)

The node holds each of these sockets, too. One that is shut down refuses connections; the kernel tells the node at
once. One that the function has closed is whole: requests wait in it for ever. That shows in requests that wait while
no process of the instance has the socket; they are looked for every LOOK_SECONDS, with one system call for all
instances. A connection that comes and is accepted wakes nobody here.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from rescoldo.node.instances.processes import members

LOOK_SECONDS = 0.25
_WAITED = 2  # looks in a row at which requests wait, before it is asked who has the socket
_ASK_AGAIN = 20  # looks until the next time: an instance that is only busy has it


@dataclass(slots=True)
class _Listener:
    on_shut: Callable[[], None]
    on_waiting: Callable[[], Awaitable[None]]
    waited: int = 0  # looks in a row at which requests waited


class Listeners:
    """The listening sockets of all instances of a node."""

    def __init__(self) -> None:
        self._waiting = select.epoll()
        self._shut = select.epoll()
        asyncio.get_running_loop().add_reader(self._shut, self._tell_shut)
        self._all: dict[int, _Listener] = {}
        self._asking: set[asyncio.Task[None]] = set()

    def add(
        self, listener: socket.socket, on_shut: Callable[[], None], on_waiting: Callable[[], Awaitable[None]]
    ) -> None:
        """Look at `listener` until `remove`. `on_shut`: it takes no more connections, and has to be removed.
        `on_waiting`: requests have waited in it for a while."""
        descriptor = listener.fileno()
        self._all[descriptor] = _Listener(on_shut, on_waiting)
        self._waiting.register(descriptor, select.EPOLLIN)
        self._shut.register(descriptor, select.EPOLLRDHUP)

    def remove(self, listener: socket.socket) -> None:
        """Before `listener` is closed. May be called for one that was not added."""
        if self._all.pop(listener.fileno(), None) is not None:
            self._waiting.unregister(listener)
            self._shut.unregister(listener)

    def begin_anew(self, listener: socket.socket) -> None:
        """Another process has `listener`: that requests waited before says nothing of it."""
        if (found := self._all.get(listener.fileno())) is not None:
            found.waited = 0

    async def look_again_and_again(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self.look()

    def look(self) -> None:
        """Ask the kernel where requests wait."""
        waiting = {descriptor for descriptor, _ in self._waiting.poll(0)}
        for descriptor, found in self._all.items():
            found.waited = found.waited + 1 if descriptor in waiting else 0
            if found.waited % _ASK_AGAIN == _WAITED:
                self._ask(found)

    def _tell_shut(self) -> None:
        for descriptor, _ in self._shut.poll(0):
            self._all[descriptor].on_shut()

    def _ask(self, found: _Listener) -> None:
        async def ask() -> None:
            await found.on_waiting()

        task = asyncio.create_task(ask(), name="ask who has a listening socket")
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._shut)
        self._shut.close()
        self._waiting.close()


def is_shut(listener: socket.socket) -> bool:
    """Whether `listener` has been shut down."""
    poll = select.poll()
    poll.register(listener, select.POLLRDHUP)
    return bool(poll.poll(0))


async def is_held(listener: socket.socket, pid: int, uid: int | None) -> bool | None:
    """Whether a process of the instance has `listener` open; None where we may not look into one that could (a Python
    function of an unprivileged platform)."""
    link = f"socket:[{os.fstat(listener.fileno()).st_ino}]"
    if (found := await asyncio.to_thread(_has, pid, link)) is not False:
        return found
    others = [await asyncio.to_thread(_has, member, link) for member in await members(pid, uid)]
    return next((found for found in (True, None) if found in others), False)


def _has(pid: int, link: str) -> bool | None:
    try:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed since it was listed
                if str(entry.readlink()) == link:
                    return True
    except PermissionError:
        return None
    except (FileNotFoundError, ProcessLookupError):  # it has ended
        pass
    return False
