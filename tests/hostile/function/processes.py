"""Attacks that see, signal, trace and slow down other processes."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import resource
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from .kit import LIBC, MARKER, Target, Tries, attack, libc, read, syscall

_NOT_MINE = (errno.EPERM, errno.EACCES, errno.ESRCH)


def others(target: Target) -> Iterator[tuple[str, int]]:
    """Yield names and pids of other processes. In a PID namespace such a number may belong to one of our own
    processes, which is skipped."""
    own = {int(name) for name in os.listdir("/proc") if name.isdigit()} if target["level"] == "full" else {os.getpid()}
    for name, pid in target["pids"].items():
        if pid not in own:
            yield name, pid


@attack("sees processes of others in /proc", proven=True)
def foreign_processes(target: Target, tries: Tries) -> None:
    mine = os.getsid(0)
    tries.get("list /proc", lambda: [n for n in os.listdir("/proc") if n.isdigit() and _session(int(n)) != mine])
    for name, pid in others(target):
        for file in ("cmdline", "status", "stat", "comm"):
            tries.get(f"read {file} of {name}", lambda pid=pid, file=file: read(f"/proc/{pid}/{file}"))


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:
        return 0


@attack("reads another process's memory or environment in /proc", proven=True)
def foreign_memory(target: Target, tries: Tries) -> None:
    for name, pid in others(target):
        for file in ("environ", "maps", "auxv", "mem", "stack", "syscall", "pagemap", "smaps"):
            tries.do(f"open {file} of {name}", lambda pid=pid, file=file: read_some(f"/proc/{pid}/{file}"))


def read_some(path: str) -> None:
    """Open a file and read from it; not from memory files, which begin with an unmapped page."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if not path.endswith("/mem"):
            os.read(descriptor, 64)
    finally:
        os.close(descriptor)


@attack("enters another process's root, folder or open files in /proc", proven=True)
def foreign_roots(target: Target, tries: Tries) -> None:
    for name, pid in others(target):
        for file in ("root", "cwd", "fd", "map_files", "exe", "task"):
            path = f"/proc/{pid}/{file}"
            if file == "task" and target["level"] != "full":
                continue  # only shows names and numbers
            follow = file in ("exe",)
            tries.get(f"{file} of {name}", lambda p=path, follow=follow: os.readlink(p) if follow else os.listdir(p))


@attack("finds a wider root at /proc/1/root or /proc/self/root")
def own_roots(target: Target, tries: Tries) -> None:
    for start in ("/proc/1/root", "/proc/self/root", "/proc/thread-self/root", f"/proc/{os.getppid()}/root"):
        for path in target["platform_files"][:2] + target["host_files"][:2]:
            tries.get(f"read {start}{path}", lambda start=start, path=path: read(start + path))
            tries.get(f"read {start}/..{path}", lambda start=start, path=path: read(f"{start}/../..{path}"))


@attack("sends signals to others", proven=True)
def signals(target: Target, tries: Tries) -> None:
    number = target["signal"]
    for name, pid in others(target):
        tries.do(f"kill {name}", lambda pid=pid: os.kill(pid, number), only=_NOT_MINE)
        tries.do(f"kill the group of {name}", lambda pid=pid: os.killpg(pid, number), only=_NOT_MINE)
        tries.do(f"tgkill {name}", lambda pid=pid: libc("tgkill", pid, pid, number), only=_NOT_MINE)
        tries.do(f"sigqueue {name}", lambda pid=pid: libc("sigqueue", pid, number, None), only=_NOT_MINE)


@attack("kills every process that it can: kill(-1)")
def kill_all(target: Target, tries: Tries) -> None:
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        try:
            os.kill(-1, signal.SIGTERM)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    # the suite sees the effect from outside: other processes must survive


@attack("makes the kernel send a signal for it (F_SETOWN)", proven=True)
def owned_signals(target: Target, tries: Tries) -> None:
    for name, pid in others(target):
        tries.get(f"SIGIO to {name}", lambda pid=pid: _announce(pid, target["signal"]))


def _announce(pid: int, number: int) -> str:
    """Make `pid` the owner of a pipe, with a signal of our choice for readable data."""
    out, into = os.pipe()
    try:
        fcntl.fcntl(out, fcntl.F_SETOWN, pid)
        if number:
            fcntl.fcntl(out, fcntl.F_SETSIG, number)
            fcntl.fcntl(out, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
            os.write(into, b"x")
        # Survivors show whether the signal arrives. A permitted F_SETOWN counts as a gain only if it names another
        # process.
        return "owner set" if fcntl.fcntl(out, fcntl.F_GETOWN) == pid and not number else ""
    finally:
        os.close(out)
        os.close(into)


@attack("changes priority or processors of others")
def priorities(target: Target, tries: Tries) -> None:
    for name, pid in others(target):
        tries.do(f"nice {name}", lambda pid=pid: os.setpriority(os.PRIO_PROCESS, pid, 19))
        tries.do(f"nice the group of {name}", lambda pid=pid: os.setpriority(os.PRIO_PGRP, pid, 19))
        tries.do(f"pin {name}", lambda pid=pid: os.sched_setaffinity(pid, {0}))
        idle = os.sched_param(0)
        tries.do(f"idle {name}", lambda p=pid, idle=idle: os.sched_setscheduler(p, os.SCHED_IDLE, idle))
    tries.do("nice the victim's user", lambda: os.setpriority(os.PRIO_USER, target["victim"]["uid"], 19))


@attack("takes a better priority than it was given")
def own_priority(target: Target, tries: Tries) -> None:
    tries.do("nice -20", lambda: os.setpriority(os.PRIO_PROCESS, 0, -20))
    first = os.sched_param(1)
    tries.do("real time", lambda: os.sched_setscheduler(0, os.SCHED_FIFO, first))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]

    def raise_limit(what: int, limits: tuple[int, int]) -> None:
        try:
            resource.setrlimit(what, limits)
        except ValueError as error:  # Python reports EPERM as ValueError
            raise PermissionError(errno.EPERM, str(error)) from error

    tries.do("more descriptors", lambda: raise_limit(resource.RLIMIT_NOFILE, (hard + 1, hard + 1)))
    core = (1, resource.RLIM_INFINITY)
    tries.do("core files", lambda: raise_limit(resource.RLIMIT_CORE, core))


@attack("sets limits of others (prlimit)", proven=True)
def limits_of_others(target: Target, tries: Tries) -> None:
    for name, pid in others(target):
        tries.do(f"prlimit {name}", lambda pid=pid: _lower_core(pid))


def _lower_core(pid: int) -> None:
    limits = resource.prlimit(pid, resource.RLIMIT_CORE)
    resource.prlimit(pid, resource.RLIMIT_CORE, limits)


@attack("uses pidfds of others: signals, copies of their descriptors", proven=True)
def pidfds(target: Target, tries: Tries) -> None:
    for name, pid in others(target):
        try:
            pidfd = os.pidfd_open(pid)
        except OSError as error:
            tries.refused[f"pidfd of {name}"] = errno.errorcode[error.errno or 0]
            continue
        tries.do(f"signal {name}", lambda fd=pidfd: signal.pidfd_send_signal(fd, target["signal"]))
        tries.do(f"copy a descriptor of {name}", lambda fd=pidfd: os.close(syscall("pidfd_getfd", fd, 0, 0)))
        os.close(pidfd)


@attack("traces others (ptrace)", proven=True)
def tracing(target: Target, tries: Tries) -> None:
    seize, detach = 0x4206, 17
    for name, pid in (*others(target), ("its parent", os.getppid() or 1)):
        tries.do(f"seize {name}", lambda pid=pid: libc("ptrace", seize, pid, None, None), only=_NOT_MINE)
        LIBC.ptrace(detach, pid, None, None)


@attack("reads or writes the memory of others (process_vm_readv, process_vm_writev)", proven=True)
def vm_calls(target: Target, tries: Tries) -> None:
    piece = ctypes.create_string_buffer(16)
    vector = (ctypes.c_size_t * 2)(ctypes.addressof(piece), 16)
    for name, pid in (*others(target), ("its own first process", 1)):
        there = target["addresses"].get(name, 0x400000)
        remote = (ctypes.c_size_t * 2)(there, 16)
        for call in ("process_vm_readv", "process_vm_writev"):
            if call.endswith("writev") and target["level"] == "none":
                continue  # the unprotected proof should do no harm
            tries.do(f"{call} of {name}", lambda call=call, pid=pid, r=remote: libc(call, pid, vector, 1, r, 1, 0))


@attack("asks the kernel about others (kcmp, process_madvise, move_pages)")
def other_calls(target: Target, tries: Tries) -> None:
    madvise = "process_madvise"
    number = {"x86_64": 279, "aarch64": 239}[os.uname().machine]  # move_pages, which is missing in our tables
    for name, pid in others(target):
        tries.do(f"kcmp with {name}", lambda pid=pid: syscall("kcmp", os.getpid(), pid, 0, 1, 1))
        tries.do(
            f"process_madvise of {name}", lambda pid=pid: syscall(madvise, pid, None, 0, 4, 0), only=(errno.EPERM,)
        )
        nodes = (ctypes.c_int * 1)(0)
        pages = (ctypes.c_void_p * 1)(0x400000)
        tries.do(f"move_pages of {name}", lambda pid=pid, p=pages, n=nodes: syscall(number, pid, 1, p, n, n, 2))


@attack("joins namespaces of others", proven=True)
def foreign_namespaces(target: Target, tries: Tries) -> None:
    for name, pid in others(target):
        for kind in ("mnt", "pid", "net", "ipc", "uts", "user", "cgroup"):
            path = f"/proc/{pid}/ns/{kind}"
            tries.do(f"open {kind} of {name}", lambda path=path: os.close(os.open(path, os.O_RDONLY)))
    own = os.open("/proc/self/ns/net", os.O_RDONLY)
    if target["level"] != "none":
        tries.do("setns", lambda: libc("setns", own, 0), only=(errno.EPERM,))
    os.close(own)


@attack("reaches the namespace above its own")
def parent_namespace(target: Target, tries: Tries) -> None:
    parent, translate = 0xB702, 0x8004B706  # NS_GET_PARENT, NS_GET_PID_FROM_PIDNS
    own = os.open("/proc/self/ns/pid", os.O_RDONLY)
    tries.do("NS_GET_PARENT", lambda: os.close(fcntl.ioctl(own, parent)))
    if target["level"] == "full":
        for name, pid in others(target):
            tries.do(f"number of {name}", lambda pid=pid: fcntl.ioctl(own, translate, pid))
    os.close(own)


@attack("makes a user namespace", proven=True)
def user_namespace(target: Target, tries: Tries) -> None:
    new_user = 0x1000_0000
    tries.do("unshare", lambda: in_child(lambda: libc("unshare", new_user)))
    tries.do("clone", lambda: _clone(new_user))
    tries.get("the program unshare", lambda: _output("unshare", "--user", "--map-root-user", "id", "-u"))


@attack("makes other namespaces: mount, PID, network, IPC, UTS, cgroup, time", proven=True)
def other_namespaces(target: Target, tries: Tries) -> None:
    kinds = {"mount": 0x2_0000, "pid": 0x2000_0000, "net": 0x4000_0000, "ipc": 0x800_0000, "uts": 0x400_0000,
             "cgroup": 0x200_0000, "time": 0x80}  # fmt: skip
    for name, flag in kinds.items():
        tries.do(f"unshare {name}", lambda flag=flag: in_child(lambda: libc("unshare", flag)))
        if name != "time":
            tries.do(f"clone {name}", lambda flag=flag: _clone(flag))


@attack("calls clone3, whose arguments a filter cannot see")
def clone3(target: Target, tries: Tries) -> None:
    arguments = (ctypes.c_uint64 * 11)(0x1000_0000, 0, 0, 0, signal.SIGCHLD)
    tries.do("clone3", lambda: syscall("clone3", arguments, 88), only=(errno.ENOSYS,))


def in_child(action: object) -> None:
    """Call `action` in a fork, so that it does not change this process; raise its OSError here."""
    child = os.fork()
    if child == 0:
        code = 0
        try:
            action()  # type: ignore[operator]
        except OSError as error:
            code = error.errno or 255
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        raise OSError(code, os.strerror(code))


def _clone(flags: int) -> None:
    pid = syscall("clone", flags | signal.SIGCHLD, None, None, None, None)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


@attack("becomes another user or group", proven=True)
def another_user(target: Target, tries: Tries) -> None:
    uid = target["victim"]["uid"] if target["level"] != "unprivileged" else 0
    for name, number in (("root", 0), ("the victim", uid), ("the edge", target["edge_uid"])):
        for call in ("setuid", "setgid", "setresuid", "setfsuid"):
            if call == "setfsuid":
                tries.get(f"setfsuid to {name}", lambda n=number: _file_user(n))
                continue
            arguments = (number,) * (3 if call == "setresuid" else 1)
            tries.do(f"{call} to {name}", lambda call=call, a=arguments: in_child(lambda: getattr(os, call)(*a)))
    tries.do("setgroups", lambda: in_child(lambda: os.setgroups([0])))


def _file_user(uid: int) -> str:
    """Return a text if setfsuid changed the user for file access; setfsuid itself reports no error."""
    libc("setfsuid", uid)
    now = libc("setfsuid", -1)
    libc("setfsuid", os.geteuid())
    return "done" if now == uid and uid != os.geteuid() else ""


@attack("mounts or unmounts")
def mounts(target: Target, tries: Tries) -> None:
    only, here = (errno.EPERM,), os.environ["TMPDIR"].encode()
    tries.do("tmpfs", lambda: libc("mount", b"none", here, b"tmpfs", 0, None), only=only)
    tries.do("the root writable again", lambda: libc("mount", None, b"/", None, 0x20 | 0x1000, None), only=only)
    tries.do("proc", lambda: libc("mount", b"proc", b"/proc", b"proc", 0, None), only=only)
    tries.do("umount /tmp", lambda: libc("umount2", b"/tmp", 2), only=only)
    tries.do("umount /proc", lambda: libc("umount2", b"/proc", 2), only=only)
    tries.do("bind", lambda: libc("mount", b"/", here, None, 0x5000, None), only=only)


@attack("mounts with the newer calls: open_tree, move_mount, fsopen, mount_setattr")
def new_mounts(target: Target, tries: Tries) -> None:
    only = (errno.EPERM,)
    for name, arguments in {
        "open_tree": (-100, b"/", 1), "move_mount": (-1, b"/", -1, b"/tmp", 0), "fsopen": (b"tmpfs", 0),
        "fsconfig": (-1, 0, None, None, 0), "fsmount": (-1, 0, 0), "fspick": (-100, b"/", 0),
        "mount_setattr": (-100, b"/", 0, None, 32),
    }.items():  # fmt: skip
        tries.do(name, lambda name=name, arguments=arguments: syscall(name, *arguments), only=only)


@attack("changes its root: chroot")
def chroot(target: Target, tries: Tries) -> None:
    tries.do("chroot", lambda: in_child(lambda: os.chroot("/")), only=(errno.EPERM,))


@attack("changes its root: pivot_root")
def pivot_root(target: Target, tries: Tries) -> None:
    tries.do("pivot_root", lambda: syscall("pivot_root", b"/tmp", b"/tmp"), only=(errno.EPERM,))


@attack("finds a trace of the victim in any folder that it can enter")
def walk(target: Target, tries: Tries) -> None:
    found = []
    for base in ("/tmp", "/var", "/run", "/dev", "/srv", "/mnt", "/home", "/root", "/media"):
        for folder, _, names in os.walk(base):
            found += [str(Path(folder, name)) for name in names if MARKER in name]
    tries.get("files with the marker in their names", lambda: found)
