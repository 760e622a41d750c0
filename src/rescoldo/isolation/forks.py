"""Forks that ask first: a process under the filter of `seccomp.install_asking` waits at each fork until the holder of
its listener answers (seccomp_unotify(2)).

The kernel judges the arguments in registers before it asks, and an answer lets the call go on as it is. So nothing that
the process changes meanwhile matters.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import select
import socket
import struct
from dataclasses import dataclass

from rescoldo.isolation import seccomp
from rescoldo.isolation.level import level
from rescoldo.isolation.syscall_numbers import numbers
from rescoldo.isolation.syscalls import no_new_privileges

# linux/seccomp.h, the same on every architecture
_RECEIVE = 0xC050_2100
_SEND = 0xC018_2101
_IS_VALID = 0x4008_2102
_GO_ON = 1  # SECCOMP_USER_NOTIF_FLAG_CONTINUE, Linux 5.5
_QUESTION = struct.Struct("=QIIi60x")  # struct seccomp_notif: id, pid, flags, number of the call
_ANSWER = struct.Struct("=QqiI")  # struct seccomp_notif_resp: id, value, error, flags
_ID = struct.Struct("=Q")
_PATIENCE = 5000  # milliseconds for the first fork of a fresh child


@dataclass(frozen=True, slots=True)
class Question:
    """A call that waits for an answer."""

    id: int
    pid: int  # the calling thread; 0: not in this process's PID namespace
    leaves_session: bool  # setsid; otherwise a fork


class ForkListener:
    """Hears the forks of all processes under one filter. Owns `descriptor`, which is readable while one waits, and hung
    up when the last process has ended."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._setsid = numbers(os.uname().machine)["setsid"]

    def fileno(self) -> int:
        """The descriptor to poll."""
        return self._descriptor

    def receive(self) -> Question | None:
        """The next question; None if the process that asked it has ended. Call it only when the descriptor is readable:
        it waits otherwise."""
        buffer = bytearray(_QUESTION.size)
        with contextlib.suppress(OSError):
            fcntl.ioctl(self._descriptor, _RECEIVE, buffer)
            identifier, pid, _, number = _QUESTION.unpack(buffer)
            return Question(identifier, pid, number == self._setsid)
        return None

    def allow(self, question: Question) -> bool:
        """Let the call go on; return False if it waits no longer: a signal has interrupted it, or ended its process."""
        with contextlib.suppress(OSError):
            fcntl.ioctl(self._descriptor, _SEND, _ANSWER.pack(question.id, 0, 0, _GO_ON))
            return True
        return False

    def waits(self, question: Question) -> bool:
        """Whether the call still waits. Only then its pid surely means the process that asked."""
        with contextlib.suppress(OSError):
            fcntl.ioctl(self._descriptor, _IS_VALID, _ID.pack(question.id))
            return True
        return False

    def close(self) -> None:
        """Let go of the listener."""
        os.close(self._descriptor)


def counted() -> bool:
    """Whether instances ask for their forks: at the level unprivileged, where no cgroup counts processes."""
    return level() == "unprivileged" and available()


@functools.cache
def available() -> bool:
    """Whether a filter can ask here. Older kernels cannot, profiles may forbid it, and a container's own filter may
    have a listener already, of which there can be one. Forks to find out, the first time."""
    if not seccomp.available():
        return False
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    child = os.fork()
    if child == 0:
        _try(theirs)
    theirs.close()
    with ours:
        _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
    for descriptor in descriptors:
        _allow_first(ForkListener(descriptor))
    return os.waitpid(child, 0)[1] == 0


def _try(channel: socket.socket) -> None:
    """Send a listener and fork; exit with 0 if that was possible. Never returns."""
    code = 1
    try:
        no_new_privileges()
        descriptor = seccomp.install_asking(shared_uid=False)
        socket.send_fds(channel, [b"x"], [descriptor])
        os.close(descriptor)
        if (child := os.fork()) == 0:
            os._exit(0)
        code = os.waitpid(child, 0)[1]
    except OSError:
        pass
    finally:
        os._exit(code and 1)


def _allow_first(listener: ForkListener) -> None:
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    if poll.poll(_PATIENCE) and (question := listener.receive()) is not None:
        listener.allow(question)
    listener.close()  # a fork that was not allowed fails now
