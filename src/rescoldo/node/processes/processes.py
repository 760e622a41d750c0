"""Processes as /proc and pidfds show them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from rescoldo.isolation.syscalls import reap

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_SCAN_STEP = 32  # processes looked at before other tasks get a turn


@dataclass(frozen=True, slots=True)
class ProcessStat:
    """The fields of /proc/PID/stat that the node uses."""

    state: str  # "Z": ended, not yet reaped
    group: int
    session: int
    terminal: int  # number of its controlling terminal; 0: none
    cpu_seconds: float  # its own and its reaped children's
    started: int  # clock ticks since boot
    resident: int  # bytes (RSS)


def read_stat(pid: int) -> ProcessStat | None:
    """Read the state of process `pid`; None when there is no such process."""
    # The name in parentheses may itself contain spaces and parentheses: the other fields begin after the last.
    fields = read_short(f"/proc/{pid}/stat").rpartition(b") ")[2].split()
    if not fields:
        return None
    return ProcessStat(
        state=fields[0].decode(),
        group=int(fields[2]),
        session=int(fields[3]),
        terminal=int(fields[4]),
        cpu_seconds=sum(map(int, fields[11:15])) / _TICKS,
        started=int(fields[19]),
        resident=int(fields[21]) * _PAGE,
    )


def read_short(path: str) -> bytes:
    """Read a file of /proc of at most a page; empty where it does not exist or its process has ended. 300 of them take
    2.3 ms; with pathlib it is 6.2. Raises OSError where it cannot be read, as without a free descriptor."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):
        return b""
    try:
        return os.read(descriptor, _PAGE)
    except ProcessLookupError:
        return b""
    finally:
        os.close(descriptor)


def make_way(thread: int) -> None:
    """Have a thread, and what it forks from then on, run only when no other one wants to. Without rights the kernel
    allows no way back."""
    with contextlib.suppress(OSError):
        os.sched_setscheduler(thread, os.SCHED_IDLE, os.sched_param(0))


def proportional_memory(pid: int) -> int | None:
    """The PSS of `pid` in bytes; None when it has ended or the node may not read it."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_bytes().splitlines():
            if line.startswith(b"Pss:"):
                return int(line.split()[1]) * 1024
    return None


def uid_of(pid: int) -> int | None:
    """The real uid of `pid`; None when it has ended. The owner of /proc/PID would be root for a process that is not
    dumpable."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for line in Path(f"/proc/{pid}/status").read_bytes().splitlines():
            if line.startswith(b"Uid:"):
                return int(line.split()[1])
    return None


def all_pids() -> Iterator[int]:
    """The pids of all processes of this machine (or container)."""
    return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())


def any_alive(uid: int) -> bool:
    """Whether a process of `uid` still runs. A zombie does not, though the kernel counts it."""
    stats = (read_stat(pid) for pid in all_pids() if uid_of(pid) == uid)
    return any(stat is not None and stat.state not in "ZX" for stat in stats)


async def members(sessions: Collection[int], uid: int | None) -> list[int]:
    """The pids of an instance's processes: all of its uid, or, where it has no uid of its own, all of its sessions."""
    found = []
    for count, pid in enumerate(all_pids()):
        if count % _SCAN_STEP == 0:
            await asyncio.sleep(0)
        if uid is not None:
            if uid_of(pid) == uid:
                found.append(pid)
        elif (stat := read_stat(pid)) is not None and stat.session in sessions:
            found.append(pid)
    return found


async def kill_sessions(sessions: Collection[int]) -> None:
    """Send SIGKILL to the remaining processes of these sessions."""
    for pid in await members(sessions, None):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def signal_group(leader: int, number: int) -> None:
    """Signal the process group that `leader` leads; nothing happens if it is gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, number)


def handles_sigterm(pid: int) -> bool:
    """Whether SIGTERM has an effect on `pid`: the process catches or ignores it, or has children that may.
    Otherwise the signal is lost on the first process of a PID namespace."""
    with contextlib.suppress(OSError):
        if Path(f"/proc/{pid}/task/{pid}/children").read_bytes():
            return True
        for line in Path(f"/proc/{pid}/status").read_bytes().splitlines():
            if line.startswith((b"SigIgn:", b"SigCgt:")) and int(line.split()[1], 16) >> (signal.SIGTERM - 1) & 1:
                return True
    return False


def describe(status: int | None) -> str:
    """A wait status (None: unknown) in words: `exit status 3`, `signal 9 (SIGKILL)`."""
    if status is None:
        return "ended for an unknown reason"
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"exit status {code}"
    try:
        return f"signal {-code} ({signal.Signals(-code).name})"
    except ValueError:
        return f"signal {-code}"


class Ends:
    """Collects wait statuses of processes from their parent: the zygote, or this process.

    It keeps only the statuses of expected processes, so that orphans of functions leave nothing behind.
    """

    def __init__(self) -> None:
        self._expected: dict[int, asyncio.Future[int]] = {}

    def expect(self, pid: int) -> None:
        """Keep the status of `pid` until `take`."""
        self._expected[pid] = asyncio.get_running_loop().create_future()

    def record(self, pid: int, status: int) -> None:
        """Record that `pid` has ended with `status`."""
        future = self._expected.get(pid)
        if future is not None and not future.done():
            future.set_result(status)

    async def take(self, pid: int, patience: float = 0.2) -> int | None:
        """Take the status of `pid`, which has ended; None when its parent does not report it within `patience`
        seconds."""
        future = self._expected.get(pid)
        if future is None:
            return None
        try:
            async with asyncio.timeout(patience):
                return await asyncio.shield(future)
        except TimeoutError:
            return None
        finally:
            self._expected.pop(pid, None)

    def reap(self) -> None:
        """Reap every ended child of this process; the handler of SIGCHLD."""
        for pid, status in reap():
            self.record(pid, status)


class Watched:
    """A process held by its pidfd: the event loop notices its end, and its pid cannot come to mean another process."""

    def __init__(self, pid: int, pidfd: int) -> None:
        self.pid = pid
        self._pidfd = pidfd
        stat = read_stat(pid)
        self.started = stat.started if stat is not None else 0  # clock ticks since boot; 0: it has ended
        loop = asyncio.get_running_loop()
        self.ended = asyncio.Event()
        loop.add_reader(pidfd, self._on_end)

    def _on_end(self) -> None:
        self.close()
        self.ended.set()

    def close(self) -> None:
        """Stop watching. Further calls do nothing."""
        if self._pidfd >= 0:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

    def is_alive(self) -> bool:
        """Whether it has not ended. This polls the kernel; the event loop sets `ended` later."""
        if self._pidfd < 0:
            return False
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return not poll.poll(0)

    def kill(self) -> None:
        """Send SIGKILL to this very process, unless it has ended."""
        self.signal(signal.SIGKILL)

    def signal(self, number: int) -> None:
        """Send a signal to this very process, unless it has ended."""
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)
