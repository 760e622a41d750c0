"""Attacks on shared memory, queues, keys and Unix sockets without a path."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import pty
import socket
from contextlib import closing, suppress

from .kit import LIBC, MARKER, Target, Tries, attack, libc, read, syscall

_IPC_STAT, _SHM_STAT_ANY = 2, 15


@attack("attaches System V shared memory of others", proven=True)
def shared_memory(target: Target, tries: Tries) -> None:
    key = target["victim"]["sysv_key"]
    tries.do("shmget by its key", lambda: syscall("shmget", key, 0, 0))
    tries.get("shmat of any number", lambda: [number for number in range(64) if _attached(number)])
    tries.get("shmctl of any number", lambda: [n for n in range(64) if _stat("shmctl", n, _SHM_STAT_ANY)])
    tries.get(
        "/proc/sysvipc/shm", lambda: [line for line in read("/proc/sysvipc/shm").splitlines() if str(key) in line]
    )


def _attached(number: int) -> bool:
    try:
        address = syscall("shmat", number, None, 0o10000)
    except OSError:
        return False
    LIBC.shmdt(ctypes.c_void_p(address))
    return True


def _stat(call: str, number: int, command: int) -> bool:
    with suppress(OSError):
        syscall(call, number, command, ctypes.create_string_buffer(512))
        return True
    return False


@attack("uses System V semaphores of others", proven=True)
def semaphores(target: Target, tries: Tries) -> None:
    tries.do("semget by its key", lambda: syscall("semget", target["victim"]["sysv_key"], 1, 0))


@attack("reads System V message queues of others", proven=True)
def message_queues(target: Target, tries: Tries) -> None:
    tries.do("msgget by its key", lambda: syscall("msgget", target["victim"]["sysv_key"], 0))


@attack("opens POSIX message queues of others", proven=True)
def posix_queues(target: Target, tries: Tries) -> None:
    name = target["victim"]["queue"].encode()
    tries.do("mq_open", lambda: os.close(syscall("mq_open", name, os.O_RDONLY, 0, None)))


@attack("opens POSIX shared memory of others", proven=True)
def posix_shared_memory(target: Target, tries: Tries) -> None:
    from _posixshmem import shm_open

    tries.do("shm_open", lambda: os.close(shm_open("/" + target["victim"]["shm"], os.O_RDWR)))


@attack("connects to abstract Unix sockets of others", proven=True)
def abstract_sockets(target: Target, tries: Tries) -> None:
    name = b"\0" + target["victim"]["abstract"].encode()

    def hear() -> bytes:
        with closing(socket.socket(socket.AF_UNIX)) as client:
            client.settimeout(5)
            client.connect(name)
            return client.recv(100)

    def send() -> None:
        with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as client:
            client.sendto(b"forged", name + b"-datagrams")

    tries.get("connect", hear)
    tries.do("send a datagram", send)


@attack("reads or makes keys in the kernel's keyrings")
def keyrings(target: Target, tries: Tries) -> None:
    only = (errno.EPERM,)
    tries.do("keyctl", lambda: syscall("keyctl", 0, -3, 0, 0, 0), only=only)
    tries.do("add_key", lambda: syscall("add_key", b"user", b"hostile", b"x", 1, -4), only=only)
    tries.do("request_key", lambda: syscall("request_key", b"user", b"victim", None, 0), only=only)
    tries.get("/proc/keys", lambda: [line for line in read("/proc/keys").splitlines() if MARKER in line])


@attack("types into a terminal (TIOCSTI, TIOCLINUX)")
def terminal_input(target: Target, tries: Tries) -> None:
    descriptors = [0, 1, 2]
    with suppress(OSError):
        descriptors += pty.openpty()
    high = 0x1_0000_0000  # the kernel drops these bits
    for number, name in ((0x5412, "TIOCSTI"), (0x541C, "TIOCLINUX")):
        for descriptor in descriptors:
            text = ctypes.create_string_buffer(b"\x0bx")
            only = (errno.EPERM,)
            tries.do(
                f"{name} on {descriptor}",
                lambda n=number, d=descriptor, t=text: libc("ioctl", d, ctypes.c_ulong(n), t),
                only=only,
            )
            tries.do(
                f"{name} with high bits",
                lambda n=number, d=descriptor, t=text: libc("ioctl", d, ctypes.c_ulong(n | high), t),
                only=only,
            )
    tries.do("open the controlling terminal", lambda: os.close(os.open("/dev/tty", os.O_RDWR)))
    tries.do("take a terminal", lambda: fcntl.ioctl(0, 0x540E, 1))
