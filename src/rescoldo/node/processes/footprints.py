"""Memory of instances that no cgroup counts, from /proc: cheap enough for several polls a second.

An instance's processes are not dumpable, so the kernel does not tell their proportional memory (smaps_rollup), only
how many pages are resident, and how many of them belong to files or shared memory (statm). A fork has most pages in
common with its parent, and at most as many as the parent had then: these do not count as its own.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from rescoldo.isolation.cgroups import MOST_PIDS
from rescoldo.node.processes.processes import read_short

_PAGE = os.sysconf("SC_PAGE_SIZE")
_FILES = 16 * 2**20  # bytes; an idle instance has 11 MiB of its files' pages resident
STRAYS = -1  # in place of an instance's pid: processes of instances that are not known or have ended
_MOST_SESSIONS = 4096  # remembered


@dataclass(frozen=True, slots=True)
class Footprint:
    """Memory of an instance's processes, in bytes."""

    own: int  # at least: without what forks may have in common with their parents
    most: int  # at most: such pages count for each process; both of the first MOST_PIDS processes
    processes: tuple[int, ...]  # pids


@dataclass(slots=True)
class _Known:
    """A process that was seen before."""

    leader: int  # of its instance; 0: of none; or STRAYS
    inherited: int  # bytes that it may have in common with its parent


class Footprints:
    """Finds the processes of instances and adds their memory up.

    A process belongs to the instance of its parent, or of its session's leader, at the poll that first sees it, and
    stays in it. A child whose parents are gone by then, and that has a session of its own, is a stray.
    """

    def __init__(self, proc: str = "/proc") -> None:
        self._proc = proc
        self._own = os.getpid()
        self._known: dict[int, _Known] = {}
        # by session that a process of an instance made: the instance's main process, and that process's start
        self._sessions: dict[int, tuple[int, bytes]] = {}

    def measure(
        self, leaders: Mapping[int, int], *, exact: bool = False, ours: Collection[int] = ()
    ) -> dict[int, Footprint]:
        """The memory of the instances with these main processes, by pid. The values are their limits in bytes (0:
        none): shared memory is read where it could exceed the limit, and everywhere with `exact`.

        As STRAYS, if there are any: processes that have outlived their instance, children of this process that are
        neither `leaders` nor `ours`, and all descendants of both. The kernel gives this process the orphans of
        instances, as it is their subreaper.
        """
        families = self._families(leaders, set(ours))
        return {leader: self._add_up(pids, leaders.get(leader, 0), exact) for leader, pids in families.items()}

    def note_session(self, session: int, leader: int) -> None:
        """Count processes of a session that a process of the instance `leader` is about to make as the instance's."""
        if len(self._sessions) >= _MOST_SESSIONS:
            self._forget_sessions()
        self._sessions[session] = (leader, self._started(session))

    def sessions(self, leader: int) -> list[int]:
        """The sessions of an instance beside that of its main process."""
        return [session for session, (found, _) in self._sessions.items() if found == leader == self._maker(session)]

    def _maker(self, session: int) -> int:
        """The main process of the instance that has made a session; 0 if none has. A later process may have the number,
        which the kernel gives away again once the session has no process."""
        leader, started = self._sessions.get(session, (0, b""))
        return leader if leader and self._started(session) in (started, b"") else 0

    def _started(self, pid: int) -> bytes:
        """When a process started, as /proc tells it; empty without it."""
        fields = self._fields(pid)
        return fields[19] if len(fields) > 19 else b""

    def _forget_sessions(self) -> None:
        """Forget the sessions without a process, and the oldest where that leaves too many."""
        alive = {self._parent_and_session(pid)[-1:] for pid in self._present()}
        left = [(session, found) for session, found in self._sessions.items() if (session,) in alive]
        self._sessions = dict(left[-_MOST_SESSIONS // 2 :])

    def _present(self) -> list[int]:
        return sorted(int(name) for name in os.listdir(self._proc) if name.isdigit())  # noqa: PTH208 - speed

    def newest(self) -> int:
        """The pid that the kernel gave to a process or thread last."""
        return int((_read(f"{self._proc}/loadavg").split() or [b"0"])[-1])

    def _families(self, leaders: Mapping[int, int], ours: set[int]) -> dict[int, list[int]]:
        if not leaders and not any(known.leader for known in self._known.values()):  # a platform at rest
            self._known.clear()
            return {}
        present = self._present()
        families: dict[int, list[int]] = {}
        known, self._known = self._known, {}
        for pid in present:  # ascending: parents mostly come first
            found = known.get(pid)
            if pid in leaders:
                if found is None or found.leader != pid:
                    found = self._meet(pid, pid)
            elif found is None:
                leader = self._leader_of(pid, leaders, known, ours)
                crowded = len(families.get(leader, ())) > MOST_PIDS  # a fork bomb: count its processes, and soon
                found = _Known(leader, 0) if crowded else self._meet(pid, leader)
            elif found.leader and found.leader not in leaders:
                found.leader = STRAYS
            self._known[pid] = found
            if found.leader:
                families.setdefault(found.leader, []).append(pid)
        return families

    def _leader_of(self, pid: int, leaders: Mapping[int, int], known: Mapping[int, _Known], ours: set[int]) -> int:
        if pid in ours:
            return 0
        relatives = self._parent_and_session(pid)
        for one in relatives:
            one = self._maker(one) or one
            if one in leaders:
                return one
            relative = self._known.get(one) or known.get(one)
            if relative is not None and relative.leader:
                return relative.leader if relative.leader in leaders else STRAYS
        return STRAYS if relatives[:1] == (self._own,) else 0

    def _meet(self, pid: int, leader: int) -> _Known:
        if not leader:
            return _Known(0, 0)
        parent = next(iter(self._parent_and_session(pid)), 0)
        return _Known(leader, min(self._pages(pid)[0], self._pages(parent)[0]))

    def _parent_and_session(self, pid: int) -> tuple[int, ...]:
        fields = self._fields(pid)
        return (int(fields[1]), int(fields[3])) if len(fields) > 3 else ()

    def _fields(self, pid: int) -> list[bytes]:
        """What /proc/PID/stat has behind the name (proc(5)); empty without the process."""
        return _read(f"{self._proc}/{pid}/stat").rpartition(b") ")[2].split()

    def _pages(self, pid: int) -> tuple[int, int]:
        """Bytes of `pid`'s anonymous pages, and of those of files and shared memory."""
        fields = _read(f"{self._proc}/{pid}/statm").split()
        if len(fields) < 3:
            return 0, 0
        shared = int(fields[2])
        return (int(fields[1]) - shared) * _PAGE, shared * _PAGE

    def _shared_memory(self, pid: int) -> int:
        for line in _read(f"{self._proc}/{pid}/status").splitlines():
            if line.startswith(b"RssShmem:"):
                return int(line.split()[1]) * 1024
        return 0

    def _add_up(self, pids: list[int], limit: int, exact: bool) -> Footprint:
        own = most = files = 0
        sharing = []  # processes whose files and shared memory may be more than files
        for pid in pids[:MOST_PIDS]:
            anonymous, shared = self._pages(pid)
            own += max(0, anonymous - self._known[pid].inherited)
            most += anonymous
            files += shared
            if shared > _FILES:
                sharing.append(pid)
        if sharing and (exact or 0 < limit < most + files):
            memory = [self._shared_memory(pid) for pid in sharing]
            # The processes of an instance mostly map the same shared memory.
            own, most = own + max(memory), most + sum(memory)
        return Footprint(own, most, tuple(pids))


def _read(path: str) -> bytes:
    """The beginning of a file of /proc; empty where it cannot be read."""
    with contextlib.suppress(OSError):
        return read_short(path)
    return b""
