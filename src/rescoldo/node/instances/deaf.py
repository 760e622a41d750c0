"""Deaf instances: a function can shut down its listening socket, or close it, and live on.

The node then ends the process once its requests have finished. The rest follows as after every end
(supervision.py), and requests that wait in the socket survive.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from functools import partial
from pathlib import Path

from rescoldo.model.instance import LISTENS
from rescoldo.node.instances.boot import Boot
from rescoldo.node.instances.supervised import Supervised
from rescoldo.node.processes.processes import Watched, members
from rescoldo.node.sockets.listeners import Listeners
from rescoldo.node.sockets.probe import accepts
from rescoldo.node.sockets.waiting import WaitingRequests
from rescoldo.tasks import Tasks

UNHEARD_SECONDS = 4.0  # for a program to listen at its port again while requests wait; it may be restarting its server
UNHEARD_PAUSE = 0.02  # seconds between two connection attempts meanwhile

_LOG = logging.getLogger(__name__)


class DeafWatch:
    """Detects deaf instances and ends their processes."""

    def __init__(self, listeners: Listeners, waiting: WaitingRequests, boot: Boot, tasks: Tasks) -> None:
        self._listeners = listeners
        self._waiting = waiting
        self._boot = boot
        self._tasks = tasks

    def look_at(self, instance: Supervised) -> None:
        """Watch the socket in which a serving instance's requests would wait."""
        if (backlog := instance.endpoint.backlog) is not None:
            find_out = self._find_closed if instance.endpoint.tcp is None else self._find_unheard
            self._listeners.add(backlog, partial(self._shut, instance), partial(find_out, instance))

    def renew(self, instance: Supervised) -> bool:
        """Replace a backlog that was shut down, where the node can bind another: requests then wait there for the
        next process instead of being refused. Return whether requests reach the present process all the same."""
        endpoint, before = instance.endpoint, instance.endpoint.backlog
        assert before is not None
        self._listeners.remove(before)
        try:
            reached = endpoint.renew()
        except OSError as error:
            _LOG.error("%s: cannot make a new listening socket: %s", instance.note.launch.instance, error)
            return False
        if endpoint.backlog is not None and endpoint.backlog is not before:
            self.look_at(instance)
            self._waiting.move(before, instance.address)
        return reached

    def _shut(self, instance: Supervised) -> None:
        """Handle a socket that was shut down; the kernel refuses connections to it."""
        if not self.renew(instance):
            self._end(instance, "its listening socket has been shut down")

    async def _find_closed(self, instance: Supervised) -> None:
        """Find out why requests wait: the instance is busy, or it has closed its socket."""
        process, listener = instance.process, instance.endpoint.backlog
        if process is None or listener is None or not instance.note.ready:
            return
        held = await is_held(listener, process.pid, instance.note.uid)
        if instance.process is not process or not instance.note.ready:
            return
        if held is None:
            process.signal(LISTENS)  # the process checks its own socket
        elif not held:
            self._end(instance, "it has closed its listening socket")

    async def _find_unheard(self, instance: Supervised) -> None:
        """Handle requests in the stand-in, which came while the program did not listen at its port: pass them on
        once it does, end the process if it does not within UNHEARD_SECONDS."""
        process, stand_in, where = instance.process, instance.endpoint.backlog, instance.endpoint.tcp
        assert process is not None and stand_in is not None and where is not None
        deadline = time.monotonic() + UNHEARD_SECONDS
        while not process.ended.is_set():
            if accepts(socket.AF_INET, where):
                await self._waiting.pass_on(stand_in, instance.address)
                break
            if time.monotonic() >= deadline:
                self._end(instance, f"nobody listens at its port {where[1]}")
                break
            await asyncio.sleep(UNHEARD_PAUSE)

    def _end(self, instance: Supervised, reason: str) -> None:
        """End the process after the requests it has; the rest follows as after every end."""
        if instance.process is None or instance.ending is not None:
            return
        instance.output.keep([f"instance no longer takes requests: {reason}"])
        self._tasks.spawn("end a deaf instance", self._end_process(instance, instance.process))

    async def _end_process(self, instance: Supervised, process: Watched) -> None:
        await self._boot.ask_to_end(instance, instance.note.launch.grace)
        process.kill()


async def is_held(listener: socket.socket, pid: int, uid: int | None) -> bool | None:
    """Whether a process of the instance has `listener` open. None where the node may not inspect a process that
    could (a Python function on an unprivileged platform)."""
    link = f"socket:[{os.fstat(listener.fileno()).st_ino}]"
    if (found := await asyncio.to_thread(_has, pid, link)) is not False:
        return found
    others = [await asyncio.to_thread(_has, member, link) for member in await members({pid}, uid)]
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
