"""The few Linux calls that Python 3.11 lacks, through libc.

Each raises OSError as the functions of `os` do.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator

CLONE_NEWNS = 0x0002_0000
CLONE_NEWIPC = 0x0800_0000
CLONE_NEWPID = 0x2000_0000

MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_BIND = 4096
MS_MOVE = 8192
MS_REC = 16384
MS_PRIVATE = 1 << 18
MOUNT_ATTR_RDONLY = 1
MOUNT_ATTR_NOSUID = 2

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_UINT_MAX = 0xFFFF_FFFF

_libc = ctypes.CDLL(None, use_errno=True)
_mount = _libc.mount
_mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]
_prctl = _libc.prctl
_prctl.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong]
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long
# the same on every architecture; glibc wraps them only since 2.34 and 2.36
_SYS_CLOSE_RANGE = 436
_SYS_PIDFD_GETFD = 438
_SYS_OPEN_TREE = 428
_SYS_MOVE_MOUNT = 429
_SYS_MOUNT_SETATTR = 442
_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}  # include/uapi/asm-generic/unistd.h, syscall_64.tbl
_AT_FDCWD = -100
_CLOCK_MONOTONIC = 1
_AT_RECURSIVE = 0x8000
_OPEN_TREE_CLONE = 1
_MOVE_MOUNT_F_EMPTY_PATH = 4
_MNT_DETACH = 2


def _check(result: int, what: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def raw_syscall(name: str, number: int, *arguments: object) -> int:
    """Make a system call that libc does not offer; `arguments` as ctypes takes them. An OSError names it `name`."""
    result = int(_syscall(ctypes.c_long(number), *arguments))
    _check(min(result, 0), name)
    return result


def unshare(flags: int) -> None:
    """unshare(2)."""
    _check(_libc.unshare(flags), "unshare")


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    """mount(2); `kind` and `options` may be empty."""
    result = _mount(os.fsencode(source), os.fsencode(target), kind.encode() or None, flags, options.encode() or None)
    _check(result, f"mount on {target}")


def mount_setattr(path: str, set_: int, clear: int = 0) -> None:
    """Set and clear attributes of the mount at `path` and all mounts below it; Linux 5.12."""
    attributes = (ctypes.c_uint64 * 4)(set_, clear, 0, 0)
    size = ctypes.sizeof(attributes)
    result = _syscall(_SYS_MOUNT_SETATTR, _AT_FDCWD, os.fsencode(path), _AT_RECURSIVE, ctypes.byref(attributes), size)
    _check(result, f"mount_setattr on {path}")


def unmount(target: str) -> None:
    """umount2(2); detaches at once even if the mount is in use."""
    _check(_libc.umount2(os.fsencode(target), _MNT_DETACH), f"umount {target}")


def clone_mount(path: str) -> int:
    """open_tree(2): return a descriptor of a mount that shows the directory `path` and is in no namespace yet.

    The descriptor may be sent to a process in another mount namespace. Closing it removes the mount unless it was
    attached.
    """
    result = int(_syscall(_SYS_OPEN_TREE, _AT_FDCWD, os.fsencode(path), _OPEN_TREE_CLONE | os.O_CLOEXEC))
    _check(min(result, 0), f"open_tree {path}")
    return result


def attach_mount(descriptor: int, target: str) -> None:
    """move_mount(2): attach a mount from `clone_mount` to the directory `target` of this namespace."""
    flags = ctypes.c_uint(_MOVE_MOUNT_F_EMPTY_PATH)
    _check(_syscall(_SYS_MOVE_MOUNT, descriptor, b"", _AT_FDCWD, os.fsencode(target), flags), f"mount on {target}")


def pivot_to(root: str) -> None:
    """Make the mount at `root` the root of this mount namespace, and detach the old one."""
    os.chdir(root)
    # Both at ".": the old root is then mounted on top of the new one, and detached there (pivot_root(2), notes).
    _check(_syscall(_SYS_PIVOT_ROOT[os.uname().machine], b".", b"."), "pivot_root")
    unmount(".")
    os.chdir("/")


def move_root_to(root: str) -> None:
    """Cover the root of this mount namespace with the mount at `root`, and make that this process's root.

    The old root stays below, for a process with CAP_SYS_ADMIN to uncover. The mounts on it are detached, but for those
    that an outer user namespace has locked.
    """
    for point in _mounts_on_root():
        if point != root:
            with contextlib.suppress(OSError):
                unmount(point)
    os.chdir(root)
    mount(".", "/", flags=MS_MOVE)
    _check(_libc.chroot(b"."), "chroot")
    os.chdir("/")


def _mounts_on_root() -> list[str]:
    """Return the mount points of the mounts that are directly on the root mount (proc_pid_mountinfo(5))."""
    with open("/proc/self/mountinfo") as file:  # noqa: PTH123
        mounts = [line.split()[:5] for line in file]
    top = {number for number, _, _, _, point in mounts if point == "/"}
    below = [point for _, parent, _, _, point in mounts if parent in top and point != "/"]
    return [point.encode().decode("unicode_escape") for point in below]  # a space is \\040 there


def join_namespace(descriptor: int, kind: int) -> None:
    """setns(2)."""
    _check(_libc.setns(descriptor, kind), "setns")


def interval_timer(seconds: float) -> int:
    """timerfd_create(2): return a close-on-exec descriptor that becomes readable every `seconds`. (os has it from
    Python 3.13 on.)"""
    descriptor = int(_libc.timerfd_create(_CLOCK_MONOTONIC, os.O_CLOEXEC | os.O_NONBLOCK))
    _check(min(descriptor, 0), "timerfd_create")
    whole, rest = divmod(round(seconds * 1e9), 10**9)
    times = (ctypes.c_long * 4)(whole, rest, whole, rest)  # struct itimerspec: interval and first, each s and ns
    _check(_libc.timerfd_settime(descriptor, 0, ctypes.byref(times), None), "timerfd_settime")
    return descriptor


def no_new_privileges() -> None:
    """Keep execve from giving this process or its children more rights, from now on (set-uid bits are ignored)."""
    _check(_prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl(PR_SET_NO_NEW_PRIVS)")


def not_dumpable() -> None:
    """Keep processes of the same uid from reading this one's memory or tracing it."""
    _check(_prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0), "prctl(PR_SET_DUMPABLE)")


def become_subreaper() -> None:
    """Make orphaned descendants children of this process rather than of init."""
    _check(_prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl(PR_SET_CHILD_SUBREAPER)")


def die_with_parent(number: int) -> None:
    """Get signal `number` when the parent ends. A change of uid undoes this."""
    _check(_prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0), "prctl(PR_SET_PDEATHSIG)")


def reap() -> Iterator[tuple[int, int]]:
    """Reap every ended child of this process; yield each pid and wait status."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        yield pid, status


def set_process_name(name: str) -> None:
    """Set the name in `ps -o comm`; Linux keeps 15 bytes."""
    text = ctypes.create_string_buffer(name.encode()[:15])
    _check(_prctl(_PR_SET_NAME, ctypes.cast(text, ctypes.c_void_p), 0, 0, 0), "prctl(PR_SET_NAME)")


def close_all_but(keep: set[int]) -> None:
    """Close every descriptor above 2 that is not in `keep`."""
    low = 3
    for descriptor in sorted(fd for fd in keep if fd >= low):
        if descriptor > low:
            _check(_syscall(_SYS_CLOSE_RANGE, low, descriptor - 1, 0), "close_range")
        low = descriptor + 1
    _check(_syscall(_SYS_CLOSE_RANGE, low, ctypes.c_uint(_UINT_MAX), 0), "close_range")


def take_descriptor(pidfd: int, descriptor: int) -> int:
    """Duplicate another process's descriptor, close-on-exec. Needs the right to trace that process."""
    return raw_syscall("pidfd_getfd", _SYS_PIDFD_GETFD, pidfd, descriptor, 0)
