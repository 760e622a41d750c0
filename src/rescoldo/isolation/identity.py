"""Who a process is: its uid, its rights, its limits; and how isolated instances are on this machine."""

from __future__ import annotations

import functools
import os
import resource
import signal
from collections.abc import Sequence
from typing import Literal

from rescoldo.isolation.syscalls import (
    CLONE_NEWIPC,
    CLONE_NEWNS,
    CLONE_NEWPID,
    MOUNT_ATTR_RDONLY,
    MS_PRIVATE,
    MS_REC,
    mount,
    mount_setattr,
    unshare,
)

# of layers of requirements; above those of bundles (model/settings.py, which is too much for a zygote to import)
LAYER_GIDS = range(0x7000_0000 + 1_200_000, 0x7000_0000 + 2_200_000)

Level = Literal["full", "unprivileged"]


@functools.cache
def level() -> Level:
    """How instances are kept apart here; docs/security.md says what that means.

    full: each has a uid, a root, processes and limits of its own. Needs root that may make namespaces, and
    Linux 5.12. unprivileged: all run as the user who runs the platform, confined by what the kernel grants to
    everybody.
    """
    if os.geteuid() != 0:
        return "unprivileged"
    child = os.fork()
    if child == 0:
        os._exit(_try_privileges())
    _, status = os.waitpid(child, 0)
    return "full" if status == 0 else "unprivileged"


def _try_privileges() -> int:
    """0 when this process may do what `full` needs: a container's root often may not."""
    try:
        unshare(CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWPID)
        mount("none", "/", flags=MS_REC | MS_PRIVATE)
        mount("tmpfs", "/proc", "tmpfs")
        mount_setattr("/", MOUNT_ATTR_RDONLY)
        become(0x7000_0000, 0x7000_0000)
    except OSError:
        return 1
    return 0


def become(uid: int, gid: int, groups: Sequence[int] = ()) -> None:
    """Give up root for `uid` and `gid` with no other groups than `groups`, for good."""
    os.setgroups(groups)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def limit_resources(open_files: int) -> None:
    """No core files, and at most `open_files` descriptors (or fewer, where the host says so)."""
    _, ceiling = resource.getrlimit(resource.RLIMIT_NOFILE)
    if ceiling != resource.RLIM_INFINITY:
        open_files = min(open_files, ceiling)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_files, open_files))


def limit_processes(most: int) -> None:
    """At most `most` processes and threads of this uid, of which it should be the only user."""
    resource.setrlimit(resource.RLIMIT_NPROC, (most, most))


def reset_signals() -> None:
    """Undo the handlers and the wakeup descriptor that a zygote sets for itself, and what a shell that starts a
    platform in the background, or nohup, lets all its children ignore."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def has_processes(uid: int) -> bool:
    """Whether a process of `uid` exists; a zombie counts until it is reaped."""
    try:
        os.getpriority(os.PRIO_USER, uid)  # the kernel looks for us, in microseconds
    except ProcessLookupError:
        return False
    return True


def kill_all_of(uid: int) -> None:
    """SIGKILL every process of `uid` at once. Needs root.

    Done by a child that becomes `uid`: the kernel then visits every process in one step, so that not even
    one that forks without end escapes.
    """
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setresuid(uid, uid, uid)
            os.kill(-1, signal.SIGKILL)
            code = 0
        finally:
            os._exit(code)
    os.waitpid(child, 0)
