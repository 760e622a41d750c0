"""What a platform has left behind whose guardian and supervisor were both killed: found, and ended.

Its edge, controller and node go on by themselves. They are known by an argument that no other process has: the
settings file of this platform, or the edge's configuration.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rescoldo.edge.config import config_file
from rescoldo.model.errors import RescoldoError
from rescoldo.model.settings import Settings
from rescoldo.supervisor.programs import NODE_GRACE, node_program
from rescoldo.supervisor.sockets import bind

END_SECONDS = 5.0  # for the kernel to end a killed process
ADOPT_SECONDS = 30.0  # for a node to take over what runs


def end_leftovers(settings: Settings) -> bool:
    """Kill the processes that a killed platform left; return whether there were any. Its functions are not
    touched: a new node adopts them. Raises RescoldoError when a process cannot be ended."""
    ended = [pid for pid in _noted(settings) if _end(settings, pid)]
    return bool(ended)


def end_strays(settings: Settings, guardian: int, known: set[int]) -> None:
    """Kill processes of this platform that are the guardian's children and not among `known`: a supervisor was
    killed in the moment in which it started them."""
    children = Path(f"/proc/{guardian}/task/{guardian}/children").read_text().split()
    for pid in {int(child) for child in children} - known - {os.getpid()}:
        _end(settings, pid)


def are_there(settings: Settings) -> bool:
    """Whether processes of this platform run that a new start would have to end."""
    return any(_found(settings, pid) for pid in _noted(settings))


def end_everything(settings: Settings) -> bool:
    """End processes and functions of a platform that nobody supervises; return whether there were any.

    The caller holds the lock of the data directory.
    """
    found = end_leftovers(settings)
    return end_instances(settings) or found


def end_instances(settings: Settings) -> bool:
    """End the instances of a node that was killed, and remove the cgroups of its spares; return whether there were any.

    Only a node knows them: one is started, and ended when it has adopted them.
    """
    left = settings.cgroups_file.exists() or any(settings.instance_state.glob("*.json"))
    if not settings.settings_file.exists() or not left:
        return False
    listener = bind(settings.node_socket, for_edge=False)
    program = node_program(settings, listener.fileno())
    node = subprocess.Popen(
        program.command(),
        env={**os.environ, **program.environment},
        pass_fds=program.descriptors,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        with listener, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(ADOPT_SECONDS)
            client.connect(str(settings.node_socket))
            client.sendall(b'{"id": 0, "op": "ping"}\n')
            client.recv(4096)
        node.terminate()
        node.wait(NODE_GRACE)
        return True
    except (OSError, subprocess.TimeoutExpired) as error:
        node.kill()
        node.wait()
        raise RescoldoError(f"functions of an earlier platform cannot be ended: {error}") from error


def _noted(settings: Settings) -> list[int]:
    try:
        return [int(pid) for pid in json.loads(settings.children_file.read_text()).values()]
    except (OSError, ValueError):
        return []


def _found(settings: Settings, pid: int) -> bool:
    with _identified(settings, pid) as pidfd:
        return pidfd is not None


def _end(settings: Settings, pid: int) -> bool:
    """SIGKILL a process of this platform and wait for its end; return whether it was there."""
    with _identified(settings, pid) as pidfd:
        if pidfd is None:
            return False
        try:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        except ProcessLookupError:
            return True
        except PermissionError as error:
            raise RescoldoError(f"process {pid} of an earlier platform cannot be ended: {error}") from error
        select.select([pidfd], [], [], END_SECONDS)  # readable when its last thread has ended
        return True


@contextmanager
def _identified(settings: Settings, pid: int) -> Iterator[int | None]:
    """A pidfd of process `pid`, or None when it has ended or is none of this platform's: numbers come again."""
    try:
        pidfd = os.pidfd_open(pid)
    except (ProcessLookupError, ValueError):
        yield None
        return
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        marks = {os.fsencode(settings.settings_file), os.fsencode(config_file(settings))}
        yield pidfd if marks.intersection(arguments) else None
    except (FileNotFoundError, ProcessLookupError):
        yield None
    finally:
        os.close(pidfd)
