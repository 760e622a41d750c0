"""The identity of a process: its uid, rights and limits."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from collections.abc import Sequence

_IDLE_DATA = 32 * 2**20  # bytes: VmData of an idle instance
_MORE_THREADS = 16  # of asyncio.to_thread, and the function's own
_STACK = 2 * 2**20  # bytes: pthread's default where RLIMIT_STACK is unlimited


def become(uid: int, gid: int, groups: Sequence[int] = ()) -> None:
    """Give up root for `uid` and `gid`, with `groups` as the only other groups, for good."""
    os.setgroups(groups)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def limit_resources(open_files: int) -> None:
    """Forbid core files, and allow at most `open_files` descriptors (fewer if the host's own limit is lower)."""
    _, ceiling = resource.getrlimit(resource.RLIMIT_NOFILE)
    if ceiling != resource.RLIM_INFINITY:
        open_files = min(open_files, ceiling)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_files, open_files))


def limit_data(memory: int, threads: int) -> None:
    """Refuse private memory far above the limit `memory` (bytes) to this process, a handler with up to `threads`
    threads for calls: an allocation beyond it raises MemoryError. The second net where no cgroup limits memory.

    RLIMIT_DATA counts addresses, not pages: the idle instance's 32 MiB, and the whole stack of each thread. With 128
    MiB of memory and 32 threads it is 128 + 32 + (32 + 16) * 8 = 544 MiB, with one thread 296.
    """
    stack = resource.getrlimit(resource.RLIMIT_STACK)[0]  # glibc makes the stacks of threads as large
    stacks = (threads + _MORE_THREADS) * (_STACK if stack == resource.RLIM_INFINITY else stack)
    most = memory + _IDLE_DATA + stacks
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def limit_processes(most: int) -> None:
    """Allow at most `most` processes and threads of this uid, which should have no other user."""
    resource.setrlimit(resource.RLIMIT_NPROC, (most, most))


def die_first() -> None:
    """Have the kernel kill this process and its children rather than the platform when memory is used up. Where cgroup
    v2 kills a whole container, it makes no difference. Every user may raise this value (proc_pid_oom_score_adj(5))."""
    with contextlib.suppress(OSError):
        descriptor = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, b"1000")
        finally:
            os.close(descriptor)


def reset_signals() -> None:
    """Undo the zygote's signal handlers and wakeup descriptor, and the ignored signals that all children of a
    background shell or of nohup inherit."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def priority_can_rise() -> bool:
    """Whether this process may undo a fall of a process's priority. Only root with CAP_SYS_NICE may, and a user whose
    RLIMIT_NICE permits it (setpriority(2)). Forks to find out."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            priority = os.getpriority(os.PRIO_PROCESS, 0)
            os.setpriority(os.PRIO_PROCESS, 0, priority + 1)
            os.setpriority(os.PRIO_PROCESS, 0, priority)
            code = 0
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1] == 0


def has_processes(uid: int) -> bool:
    """Whether a process of `uid` exists; a zombie counts until it is reaped."""
    try:
        os.getpriority(os.PRIO_USER, uid)  # the kernel searches the processes, in microseconds
    except ProcessLookupError:
        return False
    return True


def kill_all_of(uid: int) -> None:
    """SIGKILL every process of `uid` at once. Needs root.

    A child becomes `uid` and sends the signal: the kernel then visits every process in one step, so not even a process
    that forks without end escapes.
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
