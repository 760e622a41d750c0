"""Limits memory, cpu and process numbers, with cgroup v1 or v2.

A platform has one folder in each hierarchy that it needs, with a folder for each sandbox inside. The zygote makes them
through descriptors that it opens before it changes its root; the node sets limits, reads and removes them.
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
TCP_SHARE = 8  # v1: buffers of TCP get memory limit / TCP_SHARE on top of the limit
PIDS_LEFT = 8  # 1 / PIDS_LEFT of the machine's processes and threads is reserved for everything but instances
ASIDE = "init"  # v2: the group that gets a container's processes; Docker and others use the same name
_VACATING = 20  # attempts to move them at most
_PERIOD = 100_000  # microseconds in which the kernel accounts a cpu limit
_MOUNTS = Path("/proc/self/mountinfo")
_OWN = Path("/proc/self/cgroup")
_MOST_PROCESSES = (Path("/proc/sys/kernel/pid_max"), Path("/proc/sys/kernel/threads-max"))

Version = Literal[1, 2]


@dataclass(frozen=True, slots=True)
class Base:
    """The folders that contain a platform's sandboxes."""

    version: Version
    folders: Mapping[str, str]  # by controller; in v2 all are the same folder

    @property
    def places(self) -> tuple[str, ...]:
        """Each folder once."""
        return tuple(dict.fromkeys(self.folders.values()))


def find_base(key: str) -> Base | None:
    """Make the folders of the platform `key`, if possible below our own cgroup; return None if this process may not,
    or if controllers are missing."""
    mounts = _hierarchies()
    own = own_paths()
    if set(CONTROLLERS) <= mounts.keys():
        folders = {name: f"{_inside(mounts[name], own.get(name, '/'))}/{key}" for name in CONTROLLERS}
        with contextlib.suppress(OSError):
            for place in folders.values():
                Path(place).mkdir(exist_ok=True)
            return Base(1, folders)
        return None
    if "" not in mounts:
        return None
    # A v2 group with processes of its own cannot have limited children, except for the root.
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
    """Make the v2 groups of the platform `key`; `parent` may have limited children."""
    folder = parent / key
    folder.mkdir(exist_ok=True)
    _delegate(folder)
    return Base(2, dict.fromkeys(CONTROLLERS, str(folder)))


def _is_a_containers(top: Path) -> bool:
    """Whether the highest visible group belongs to a container; the machine's own root group has no cgroup.type."""
    return (top / "cgroup.type").exists()


def _vacate(top: Path) -> None:
    """Move a container's processes from its own group into one below, and permit limits for its children. Raises
    OSError."""
    aside = top / ASIDE
    aside.mkdir(exist_ok=True)
    for attempt in range(_VACATING):  # processes may fork meanwhile
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
    some. If the kernel refuses, only each instance's own bound remains."""
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
    """Return every group of the platform `key`, including groups from a start below another cgroup than this
    process's."""
    found = []
    for controller, mount in _hierarchies().items():
        version: Version = 1 if controller else 2
        for folder, names, _ in os.walk(mount):  # os.walk passes over folders that vanish meanwhile
            if key in names:
                found.append(Base(version, dict.fromkeys(CONTROLLERS, f"{folder}/{key}")))
            # A platform's own folder contains only sandboxes.
            names[:] = [name for name in names if not name.startswith("rescoldo-")]
    return found


def _hierarchies(text: str | None = None) -> dict[str, str]:
    """Return the mount point of each v1 controller, and under the empty name that of the v2 hierarchy."""
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


def own_paths(text: str | None = None) -> dict[str, str]:
    """Return this process's path in each hierarchy, with the names of `_hierarchies`."""
    lines = (line.split(":", 2) for line in (_OWN.read_text() if text is None else text).splitlines())
    return {name: path for _, names, path in lines for name in names.split(",")}


def out_of_memory_kills(folder: Path, version: Version) -> int:
    """Return how many processes of a memory group the kernel has killed for lack of memory; 0 for a group that cannot
    be read."""
    file = "memory.oom_control" if version == 1 else "memory.events"
    with contextlib.suppress(OSError):
        for line in (folder / file).read_text().splitlines():
            key, _, count = line.partition(" ")
            if key == "oom_kill":
                return int(count)
    return 0


def _inside(mount: str, path: str) -> str:
    """Return the folder of `path`, or the mount point if the folder is not below it (a container's view)."""
    folder = f"{mount}{path}".rstrip("/")
    return folder if Path(folder).is_dir() else mount


def _delegate(folder: Path) -> None:
    """Permit limits for the children of a v2 group."""
    missing = set(CONTROLLERS) - set((folder / "cgroup.subtree_control").read_text().split())
    if missing:
        (folder / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in sorted(missing)))


class Makers:
    """Makes the groups of sandboxes through descriptors, so it needs no path of the host."""

    def __init__(self, base: Base) -> None:
        # In v1 a process with one thread may join as a thread. To move a whole process the kernel takes a lock, for
        # which it waits for an RCU grace period: 8 ms and more after a quiet time.
        self._join = "tasks" if base.version == 1 else "cgroup.procs"
        opened = {place: os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for place in base.places}
        self._places = tuple(opened.values())
        self._of = {name: opened[folder] for name, folder in base.folders.items()}

    def make(self, name: str) -> None:
        """Make the groups of the sandbox `name`, with at most MOST_PIDS processes."""
        for place in self._places:
            os.mkdir(name, dir_fd=place)
        _write(f"{name}/pids.max", str(MOST_PIDS), place=self._of["pids"])

    def join(self, name: str) -> None:
        """Move this process into the groups; for a child that is about to become the sandbox."""
        for place in self._places:
            _write(f"{name}/{self._join}", "0", place=place)

    def remove(self, name: str) -> None:
        """Remove the groups of a sandbox whose fork failed."""
        for place in self._places:
            with contextlib.suppress(OSError):
                os.rmdir(name, dir_fd=place)


def _write(path: str, text: str, *, place: int | None = None) -> None:
    """Write to an existing file; `path` is relative to the folder behind the descriptor `place`, if given."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC, dir_fd=place)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


class Groups:
    """Sets limits on the sandboxes' groups, reads and removes them; for the node."""

    def __init__(self, base: Base) -> None:
        self._base = base

    def names(self) -> set[str]:
        """Return the names of the sandboxes with groups."""
        found: set[str] = set()
        for place in self._base.places:
            with contextlib.suppress(FileNotFoundError):
                found.update(entry.name for entry in os.scandir(place) if entry.is_dir())
        return found

    def limit(self, name: str, memory: int, cpu: int) -> None:
        """Limit memory (bytes) and cpu (millicores); 0 sets no limit. Raises OSError, also if the sandbox already uses
        more memory."""
        quota = max(1000, cpu * _PERIOD // 1000)  # microseconds; the kernel's minimum
        if self._base.version == 1:
            if memory:
                self._write("memory", name, "memory.limit_in_bytes", str(memory))
                with contextlib.suppress(OSError):  # exists only if the kernel counts swap
                    self._write("memory", name, "memory.memsw.limit_in_bytes", str(memory))
                with contextlib.suppress(OSError):  # v1 counts buffers of TCP apart from other memory
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
        """Return how many processes of the sandbox the kernel has killed for lack of memory."""
        return out_of_memory_kills(Path(self._base.folders["memory"], name), self._base.version)

    def processes(self, name: str) -> list[int]:
        """Return the pids in the sandbox."""
        with contextlib.suppress(OSError):
            text = Path(self._base.folders["pids"], name, "cgroup.procs").read_text()
            return [int(pid) for pid in text.split()]
        return []

    def remove(self, name: str) -> bool:
        """Remove the groups of a sandbox, whose processes must have ended; return whether all are gone."""
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
        """Remove the platform's own folders if they are empty."""
        for place in self._base.places:
            with contextlib.suppress(OSError):
                Path(place).rmdir()
