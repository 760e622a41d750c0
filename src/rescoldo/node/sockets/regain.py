"""Regains a dead node's descriptors from the instances that it left behind (pidfd_getfd(2))."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from rescoldo.isolation.syscalls import take_descriptor


def regain_listener(pid: int, path: str) -> socket.socket | None:
    """The listening Unix socket bound to `path`, regained from the instance that has it. None where the node may
    not inspect the instance (an unprivileged platform), or when the instance has closed it."""
    with contextlib.suppress(OSError), _opened(pid) as pidfd:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):  # closed since it was listed
                if (found := _listener(pidfd, link, path)) is not None:
                    return found
    return None


def _listener(pidfd: int, link: Path, path: str) -> socket.socket | None:
    """The descriptor `link` (of /proc/PID/fd) of the process behind `pidfd`, if it listens at `path`."""
    if not str(link.readlink()).startswith("socket:"):
        return None
    candidate = socket.socket(fileno=take_descriptor(pidfd, int(link.name)))
    if candidate.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) and candidate.getsockname() == path:
        return candidate
    candidate.close()
    return None


def regain_output(pid: int, number: int) -> int | None:
    """Open anew the FIFO, without a name by now, that an instance has as descriptor `number`. None where the node
    may not inspect the instance, or when it prints elsewhere."""
    with contextlib.suppress(OSError), _opened(pid) as pidfd:
        taken = take_descriptor(pidfd, number)
        try:
            if stat.S_ISFIFO(os.fstat(taken).st_mode):
                return os.open(f"/proc/self/fd/{taken}", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        finally:
            os.close(taken)
    return None


@contextlib.contextmanager
def _opened(pid: int) -> Iterator[int]:
    """A pidfd of a process. Raises OSError."""
    pidfd = os.pidfd_open(pid)
    try:
        yield pidfd
    finally:
        os.close(pidfd)
