"""Finds and ends the processes of a platform whose guardian and supervisor were both killed.

Its edge, controller and node go on by themselves. Their arguments identify them: a module with the settings file of
this platform, or HAProxy's `-db` with the edge's configuration.
"""

from __future__ import annotations

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
from rescoldo.node.instances.strays import are_left
from rescoldo.supervisor.folders import make_run
from rescoldo.supervisor.modules import CONTROLLER, NODE, SUPERVISOR
from rescoldo.supervisor.parts import NODE_GRACE, node_part
from rescoldo.supervisor.sockets import bind

END_SECONDS = 5.0  # for the kernel to end a killed process
ADOPT_SECONDS = 30.0  # for a node to adopt running instances


def end_leftovers(settings: Settings) -> bool:
    """Kill the processes that a killed platform left; return whether there were any. Instances keep running: a new
    node adopts them. Raises RescoldoError when a process cannot be ended."""
    ended = [pid for pid in _ours(settings) if _end(settings, pid)]
    return bool(ended)


def end_supervision(settings: Settings) -> None:
    """Kill guardian and supervisor of a platform that does not stop. Its other processes go on.

    Both get SIGSTOP first, so that neither replaces the other. Raises RescoldoError when one cannot be ended.
    """
    supervision = [pid for pid in _ours(settings) if _is_supervision(pid)]
    for pid in supervision:
        _signal(settings, pid, signal.SIGSTOP)
    for pid in supervision:
        _end(settings, pid)


def end_strays(settings: Settings, guardian: int, known: set[int]) -> None:
    """Kill the guardian's children that belong to this platform and are not in `known`: their supervisor was killed
    before it could register them."""
    children = Path(f"/proc/{guardian}/task/{guardian}/children").read_text().split()
    for pid in {int(child) for child in children} - known - {os.getpid()}:
        _end(settings, pid)


def are_there(settings: Settings) -> bool:
    """Whether processes of this platform are running, which a new start would have to end."""
    return bool(_ours(settings))


def end_everything(settings: Settings) -> bool:
    """End the processes and instances of a platform without a supervisor; return whether there were any.

    The caller holds the lock of the data directory.
    """
    found = end_leftovers(settings)
    return end_instances(settings) or found


def end_instances(settings: Settings) -> bool:
    """End the instances of a node that was killed, and remove the cgroups of its spares; return whether there were any.

    Only a node knows them: start one, and end it once it has adopted them.
    """
    left = settings.cgroups_file.exists() or any(settings.instance_state.glob("*.json"))
    if not left and not are_left(settings):
        return False
    try:
        make_run(settings)  # it may be lost
        settings.save()
    except OSError as error:
        raise RescoldoError(f"cannot make the run folder {settings.run} again: {error.strerror}") from error
    listener = bind(settings.node_socket, for_edge=False)
    part = node_part(settings, listener.fileno())
    node = subprocess.Popen(
        part.command(),
        env={**os.environ, **part.environment},
        pass_fds=part.descriptors,
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
        raise RescoldoError(f"cannot end functions of an earlier platform: {error}") from error


def _ours(settings: Settings) -> list[int]:
    """The pids of this platform's processes, from /proc: the list in the run folder may be lost."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with _identified(settings, int(entry.name)) as pidfd:
                if pidfd is not None:
                    found.append(int(entry.name))
    return found


def _end(settings: Settings, pid: int) -> bool:
    """Kill a process of this platform and wait for its end; return whether it was there."""
    return _signal(settings, pid, signal.SIGKILL, END_SECONDS)


def _signal(settings: Settings, pid: int, number: int, patience: float = 0.0) -> bool:
    """Send a signal to a process of this platform, and wait for its end for `patience` seconds; return whether it was
    there. Raises RescoldoError when that is not permitted."""
    with _identified(settings, pid) as pidfd:
        if pidfd is None:
            return False
        try:
            signal.pidfd_send_signal(pidfd, number)
        except ProcessLookupError:
            return True
        except PermissionError as error:
            raise RescoldoError(f"cannot end process {pid} of an earlier platform: {error}") from error
        select.select([pidfd], [], [], patience)  # readable when its last thread has ended
        return True


def _is_supervision(pid: int) -> bool:
    """Whether it is the supervisor, or the guardian, which has the supervisor's command among its arguments."""
    return SUPERVISOR.encode() in _arguments(pid)


def _marks(settings: Settings) -> list[tuple[bytes, Path]]:
    """Pairs of arguments that identify a process of the platform: an editor with the file open has but one of a
    pair."""
    modules = (SUPERVISOR, CONTROLLER, NODE)
    return [(b"-db", config_file(settings)), *((module.encode(), settings.settings_file) for module in modules)]


@contextmanager
def _identified(settings: Settings, pid: int) -> Iterator[int | None]:
    """A pidfd of process `pid`; None when it has ended, or is not of this platform, since the kernel reuses pids."""
    try:
        pidfd = os.pidfd_open(pid)
    except (ProcessLookupError, ValueError):
        yield None
        return
    try:
        arguments = _arguments(pid)
        ours = any({mark, os.fsencode(file)} <= arguments for mark, file in _marks(settings))
        yield pidfd if ours else None
    finally:
        os.close(pidfd)


def _arguments(pid: int) -> set[bytes]:
    """The arguments of process `pid`; empty when it has ended."""
    try:
        return set(Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"))
    except (FileNotFoundError, ProcessLookupError):
        return set()
