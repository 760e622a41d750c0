"""Confines a process without root: files, TCP ports and other processes (Landlock).

A ruleset names the allowed exceptions. Everything else of the kinds that it handles is refused with EACCES, to this
process and its descendants, regardless of the files' owners. A kind unknown to the kernel is not handled: see `abi`. A
restricted process also cannot trace a process outside of its own domain, or read its memory and environment.

A rule names an inode. When memory is short, the kernel forgets the names of unused files, and some file systems have
another inode for the same path from then on: procfs for all of its files, a writable overlayfs for files with several
links. The rule then allows nothing. An open descriptor of the path keeps it (`pin`).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import functools
import os
import stat
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rescoldo.isolation.syscalls import raw_syscall

# Paths that programs in Python, Go and Node.js read to start, and to find names, time and certificates. Of /proc only
# the process itself: neither command lines nor the number of others.
SYSTEM = (
    "/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/opt",
    "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives", "/etc/os-release",
    "/etc/resolv.conf", "/etc/hosts", "/etc/host.conf", "/etc/nsswitch.conf", "/etc/gai.conf",
    "/etc/services", "/etc/protocols", "/etc/passwd", "/etc/group", "/etc/mime.types",
    "/etc/localtime", "/etc/timezone", "/etc/locale.alias", "/etc/locale.conf",
    "/etc/ssl/certs", "/etc/ssl/openssl.cnf", "/etc/pki/tls/certs", "/etc/pki/ca-trust", "/etc/ca-certificates",
    "/var/lib/ca-certificates",
    "/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/loadavg", "/proc/uptime", "/proc/version",
    "/proc/filesystems", "/proc/sys/kernel", "/proc/sys/vm", "/proc/sys/net/core/somaxconn",
    "/sys/devices/system/cpu", "/sys/kernel/mm/transparent_hugepage",
)  # fmt: skip
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")

# the same on every architecture
_SYS_CREATE_RULESET = 444
_SYS_ADD_RULE = 445
_SYS_RESTRICT_SELF = 446

# linux/landlock.h
_ASK_ABI = 1
_PATH_BENEATH = 1
_NET_PORT = 2
_EXECUTE = 1 << 0
_WRITE_FILE = 1 << 1
_READ_FILE = 1 << 2
_READ_DIR = 1 << 3
_MAKE_CHAR = 1 << 6
_MAKE_BLOCK = 1 << 11
_REFER = 1 << 13  # rename and link across directories
_TRUNCATE = 1 << 14
_IOCTL_DEV = 1 << 15
_OF_A_FILE = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_BIND_TCP = 1 << 0
_CONNECT_TCP = 1 << 1
_SCOPES = 0b11  # abstract Unix sockets and signals

_FIRST_PIN = 40  # above the numbers that programs expect, below 64, where the kernel's table of descriptors would grow
_pins: set[int] = set()  # a process has one table of descriptors, too

_FILES_SINCE = {1: _REFER - 1, 2: _REFER, 3: _TRUNCATE, 5: _IOCTL_DEV}  # rights by the ABI version that introduced them
_NET_SINCE = 4
_SCOPES_SINCE = 6


@dataclass(frozen=True, slots=True)
class Ruleset:
    """The kinds that a ruleset handles and its exceptions, as the kernel's bits."""

    files: int
    ports: int
    scopes: int
    paths: tuple[tuple[str, int], ...]
    tcp: tuple[tuple[int, int], ...]


@functools.cache
def abi() -> int:
    """Return the version of Landlock here. 0: none. 1: files. 3: truncation. 4: TCP ports. 6: signals."""
    try:
        return raw_syscall("landlock_create_ruleset", _SYS_CREATE_RULESET, None, ctypes.c_size_t(0), _ASK_ABI)
    except OSError:
        return 0


def ruleset(
    version: int,
    *,
    read: Sequence[str],
    write: Sequence[str],
    bind_ports: Sequence[int] | None,
    connect_ports: Sequence[int] | None,
) -> Ruleset:
    """Return the ruleset of `restrict` for a kernel whose ABI is `version`."""
    files = sum(rights for since, rights in _FILES_SINCE.items() if since <= version)
    look = files & (_EXECUTE | _READ_FILE | _READ_DIR)
    change = files & ~(_MAKE_CHAR | _MAKE_BLOCK)
    allowed = dict.fromkeys(read, look) | dict.fromkeys(write, change)
    ports, tcp = 0, []
    for right, numbers in ((_BIND_TCP, bind_ports), (_CONNECT_TCP, connect_ports)):
        if numbers is not None and version >= _NET_SINCE:
            ports |= right
            tcp += [(port, right) for port in numbers]
    scopes = _SCOPES if version >= _SCOPES_SINCE else 0
    return Ruleset(files, ports, scopes, tuple(allowed.items()), tuple(tcp))


def restrict(
    *,
    read: Sequence[str],
    write: Sequence[str],
    bind_ports: Sequence[int] | None = None,
    connect_ports: Sequence[int] | None = None,
) -> None:
    """Confine this thread and its descendants to the named exceptions, for good.

    Below `read`, files may be read and executed; below `write`, everything is allowed except making devices. Both may
    also name files; missing paths are skipped. TCP ports are limited unless None (0: a port that the kernel chooses).
    Signals and abstract Unix sockets reach only the domain itself and its descendants. Call this before there are
    threads, after no_new_privileges(). Open descriptors keep working.

    Raises OSError: ENOSYS or EOPNOTSUPP without Landlock.
    """
    if abi() == 0:
        raise OSError(errno.EOPNOTSUPP, "this kernel has no Landlock, or it is not enabled (boot option lsm=)")
    _enforce(ruleset(abi(), read=read, write=write, bind_ports=bind_ports, connect_ports=connect_ports))


def scope() -> None:
    """Cut this thread and its descendants off from others' signals and abstract Unix sockets.

    Changes nothing else; does nothing before ABI 6. Call this after no_new_privileges(), or as root.
    """
    if abi() >= _SCOPES_SINCE:
        _enforce(Ruleset(files=0, ports=0, scopes=_SCOPES, paths=(), tcp=()))


def pin(paths: Iterable[str]) -> list[int]:
    """Open `paths`; rules that name them hold for as long as any process has these descriptors, whatever memory the
    kernel frees. Missing paths are skipped."""
    found = []
    for path in paths:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            found.append(os.open(path, os.O_PATH | os.O_CLOEXEC))
    return found


def pin_own_process() -> None:
    """Pin /proc/self for the life of this process, also as another program: an exec does not close the descriptor.
    It gives no right that the process does not have."""
    (opened,) = pin(["/proc/self"])
    _pins.add(fcntl.fcntl(opened, fcntl.F_DUPFD, _FIRST_PIN))
    os.close(opened)


def pins() -> frozenset[int]:
    """Return the descriptors that `pin_own_process` has opened in this process, for whoever closes or counts
    descriptors."""
    return frozenset(_pins)


def _enforce(rules: Ruleset) -> None:
    attributes = struct.pack("=QQQ", rules.files, rules.ports, rules.scopes)[: _attributes_size(abi())]
    descriptor = raw_syscall(
        "landlock_create_ruleset", _SYS_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0
    )
    try:
        for path, rights in rules.paths:
            _allow_path(descriptor, path, rights)
        for port, rights in rules.tcp:
            _add_rule(descriptor, _NET_PORT, struct.pack("=QQ", rights, port))
        raw_syscall("landlock_restrict_self", _SYS_RESTRICT_SELF, descriptor, 0)
    finally:
        os.close(descriptor)


def _attributes_size(version: int) -> int:
    """Return the size in bytes of struct landlock_ruleset_attr in an ABI."""
    return 8 * (1 + (version >= _NET_SINCE) + (version >= _SCOPES_SINCE))


def _allow_path(descriptor: int, path: str, rights: int) -> None:
    try:
        beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return
    try:
        if not stat.S_ISDIR(os.fstat(beneath).st_mode):
            rights &= _OF_A_FILE
        _add_rule(descriptor, _PATH_BENEATH, struct.pack("=Qi", rights, beneath))
    finally:
        os.close(beneath)


def _add_rule(descriptor: int, kind: int, rule: bytes) -> None:
    raw_syscall("landlock_add_rule", _SYS_ADD_RULE, descriptor, kind, rule, 0)
