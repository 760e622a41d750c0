"""Limits of memory, cpu and process numbers, by cgroup v1 or v2.

A platform has one folder in each hierarchy it needs, and in it one for each sandbox. The zygote makes them over
descriptors that it opens before it changes its root; the node limits, reads and removes them.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

CONTROLLERS = ("memory", "cpu", "pids")
MOST_PIDS = 512  # processes and threads in one instance
TCP_SHARE = 8  # of its memory limit an instance may have as much again through this in buffers of TCP, in v1
PIDS_LEFT = 8  # of the machine's processes and threads the share through this is left to all but instances
ASIDE = "init"  # where a container's processes go in v2, as Docker's and others' own do
_VACATING = 20  # times that they are moved at the most
_PERIOD = 100_000  # microseconds in which a cpu limit is accounted
_MOUNTS = Path("/proc/self/mountinfo")
_OWN = Path("/proc/self/cgroup")
_MOST_PROCESSES = (Path("/proc/sys/kernel/pid_max"), Path("/proc/sys/kernel/threads-max"))

Version = Literal[1, 2]


@dataclass(frozen=True, slots=True)
class Base:
    """The folders in which a platform's sandboxes have theirs."""

    version: Version
    folders: Mapping[str, str]  # by controller; in v2 all are the same

    @property
    def places(self) -> tuple[str, ...]:
        """Each folder once."""
        return tuple(dict.fromkeys(self.folders.values()))


def find_base(key: str) -> Base | None:
    """Make the folders of the platform `key`, below our own cgroup where that is possible; None where this
    process may not, or where the controllers are missing."""
    mounts = _hierarchies()
    own = _own_paths()
    if set(CONTROLLERS) <= mounts.keys():
        folders = {name: f"{_inside(mounts[name], own.get(name, '/'))}/{key}" for name in CONTROLLERS}
        with contextlib.suppress(OSError):
            for place in folders.values():
                Path(place).mkdir(exist_ok=True)
            return Base(1, folders)
        return None
    if "" not in mounts:
        return None
    # A v2 group with processes of its own cannot have limited children, except at the root.
    top = Path(mounts[""])
    for parent in dict.fromkeys((Path(_inside(mounts[""], own.get("", "/"))), top)):
        with contextlib.suppress(OSError):
            _delegate(parent)
            return _base_below(parent, key)
    if _is_a_containers(top):
        with contextlib.suppress(OSError):
            _vacate(top)
            return _base_below(top, key)
    return None


def _base_below(parent: Path, key: str) -> Base:
    """The groups of the platform `key` in v2; `parent` may have limited children."""
    folder = parent / key
    folder.mkdir(exist_ok=True)
    _delegate(folder)
    return Base(2, dict.fromkeys(CONTROLLERS, str(folder)))


def _is_a_containers(top: Path) -> bool:
    """Whether the highest group that we see is a container's, not the machine's, which has no type."""
    return (top / "cgroup.type").exists()


def _vacate(top: Path) -> None:
    """Move a container's processes from its own group into one below it, and let its children be limited. Raises
    OSError."""
    aside = top / ASIDE
    aside.mkdir(exist_ok=True)
    for attempt in range(_VACATING):  # a process may fork meanwhile
        for pid in (top / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                _write(str(aside / "cgroup.procs"), pid)
        try:
            _delegate(top)
        except OSError as error:
            if error.errno != errno.EBUSY or attempt == _VACATING - 1:
                raise
        else:
            return


def leave_pids(base: Base) -> None:
    """Bound the processes and threads of all instances together, so that the platform and the machine can always make
    some. Where the kernel does not let us, each instance has its own bound alone."""
    folder = Path(base.folders["pids"])
    numbers = [int(text) for text in map(_read_number, (*_MOST_PROCESSES, folder.parent / "pids.max")) if text]
    with contextlib.suppress(OSError):
        _write(str(folder / "pids.max"), str(min(numbers) - min(numbers) // PIDS_LEFT))


def _read_number(path: Path) -> str:
    with contextlib.suppress(OSError):
        text = path.read_text().strip()
        return text if text.isdigit() else ""
    return ""


def named(key: str) -> list[Base]:
    """Every group of the platform `key`, wherever it was started: below another group, perhaps, than this process."""
    found = []
    for controller, mount in _hierarchies().items():
        version: Version = 1 if controller else 2
        for folder, names, _ in os.walk(mount):  # what vanishes meanwhile is passed over
            if key in names:
                found.append(Base(version, dict.fromkeys(CONTROLLERS, f"{folder}/{key}")))
            names[:] = [name for name in names if not name.startswith("rescoldo-")]
    return found


def _hierarchies(text: str | None = None) -> dict[str, str]:
    """Where each v1 controller is mounted, and under the empty name the v2 hierarchy."""
    found: dict[str, str] = {}
    for line in (text or _MOUNTS.read_text()).splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        point = before.split()[4]
        if kind == "cgroup2":
            found[""] = point
        elif kind == "cgroup":
            found.update((name, point) for name in options.split(",") if name in CONTROLLERS)
    return found


def _own_paths(text: str | None = None) -> dict[str, str]:
    """This process's place in each hierarchy, named as `_hierarchies` does."""
    lines = (line.split(":", 2) for line in (text or _OWN.read_text()).splitlines())
    return {name: path for _, names, path in lines for name in names.split(",")}


def _inside(mount: str, path: str) -> str:
    """The folder of `path`; the mount point itself where it is not below it (a container's view)."""
    folder = f"{mount}{path}".rstrip("/")
    return folder if Path(folder).is_dir() else mount


def _delegate(folder: Path) -> None:
    """Let the children of a v2 group be limited."""
    missing = set(CONTROLLERS) - set((folder / "cgroup.subtree_control").read_text().split())
    if missing:
        (folder / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in sorted(missing)))


class Makers:
    """Makes the groups of sandboxes, over descriptors: no path of the host is needed any more."""

    def __init__(self, base: Base) -> None:
        # A process of one thread may join as a thread, in v1. To move whole processes the kernel takes a lock for which
        # it waits, 8 ms and more after a quiet time, for an RCU grace period.
        self._join = "tasks" if base.version == 1 else "cgroup.procs"
        opened = {place: os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for place in base.places}
        self._places = tuple(opened.values())
        self._of = {name: opened[folder] for name, folder in base.folders.items()}

    def make(self, name: str) -> None:
        """Make the groups of the sandbox `name`, which may hold MOST_PIDS processes."""
        for place in self._places:
            os.mkdir(name, dir_fd=place)
        _write(f"{name}/pids.max", str(MOST_PIDS), place=self._of["pids"])

    def join(self, name: str) -> None:
        """Put this process into them; for a child that is about to become the sandbox."""
        for place in self._places:
            _write(f"{name}/{self._join}", "0", place=place)

    def remove(self, name: str) -> None:
        """Remove the groups of a sandbox that no process could be forked for."""
        for place in self._places:
            with contextlib.suppress(OSError):
                os.rmdir(name, dir_fd=place)


def _write(path: str, text: str, *, place: int | None = None) -> None:
    """Write to a file that exists, below the folder that the descriptor `place` means, if it is given."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC, dir_fd=place)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


class Groups:
    """The sandboxes' groups as the node uses them."""

    def __init__(self, base: Base) -> None:
        self._base = base

    def names(self) -> set[str]:
        """The sandboxes that have groups."""
        found: set[str] = set()
        for place in self._base.places:
            with contextlib.suppress(FileNotFoundError):
                found.update(entry.name for entry in os.scandir(place) if entry.is_dir())
        return found

    def limit(self, name: str, memory: int, cpu: int) -> None:
        """Limit memory (bytes) and cpu (millicores); 0 leaves it without a limit. Raises OSError, also where the
        sandbox uses more memory already."""
        quota = max(1000, cpu * _PERIOD // 1000)  # microseconds; the kernel takes no less
        if self._base.version == 1:
            if memory:
                self._write("memory", name, "memory.limit_in_bytes", str(memory))
                with contextlib.suppress(OSError):  # only where the kernel counts swap
                    self._write("memory", name, "memory.memsw.limit_in_bytes", str(memory))
                with contextlib.suppress(OSError):  # v1 counts the buffers of TCP apart from all other memory
                    self._write("memory", name, "memory.kmem.tcp.limit_in_bytes", str(memory // TCP_SHARE))
            if cpu:
                self._write("cpu", name, "cpu.cfs_period_us", str(_PERIOD))
                self._write("cpu", name, "cpu.cfs_quota_us", str(quota))
            return
        if memory:
            self._write("memory", name, "memory.max", str(memory))
            with contextlib.suppress(OSError):
                self._write("memory", name, "memory.swap.max", "0")
        if cpu:
            self._write("cpu", name, "cpu.max", f"{quota} {_PERIOD}")

    def _write(self, controller: str, name: str, file: str, text: str) -> None:
        _write(f"{self._base.folders[controller]}/{name}/{file}", text)

    def out_of_memory(self, name: str) -> int:
        """How often a process of the sandbox was killed for want of memory."""
        file = "memory.oom_control" if self._base.version == 1 else "memory.events"
        with contextlib.suppress(OSError):
            for line in Path(self._base.folders["memory"], name, file).read_text().splitlines():
                key, _, count = line.partition(" ")
                if key == "oom_kill":
                    return int(count)
        return 0

    def processes(self, name: str) -> list[int]:
        """The pids in the sandbox."""
        with contextlib.suppress(OSError):
            text = Path(self._base.folders["pids"], name, "cgroup.procs").read_text()
            return [int(pid) for pid in text.split()]
        return []

    def remove(self, name: str) -> bool:
        """Remove the groups of a sandbox; return whether nothing is left. Its processes must have ended."""
        gone = True
        for place in self._base.places:
            try:
                Path(place, name).rmdir()
            except FileNotFoundError:
                continue
            except OSError:
                gone = False
        return gone

    def remove_base(self) -> None:
        """Remove the platform's own folders, once they are empty."""
        for place in self._base.places:
            with contextlib.suppress(OSError):
                Path(place).rmdir()
