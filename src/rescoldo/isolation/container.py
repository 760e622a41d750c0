"""The limits of the container that this process runs in: memory, cpus and descriptors.

A container shows the machine's /proc/meminfo and number of cpus; its own limits are in its cgroups, which it may read.
The lowest limit between this process's group and the highest visible one counts. Without a limit there, the machine's
memory and cpus are the limits.
"""

from __future__ import annotations

import contextlib
import functools
import os
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rescoldo.isolation.cgroups import Version, out_of_memory_kills, own_paths

_NO_LIMIT = 2**60  # bytes: v1 writes "none" as the largest multiple of a page
_MEMINFO = Path("/proc/meminfo")
_MOUNTS = Path("/proc/self/mountinfo")
_OWN = Path("/proc/self/cgroup")
_SCARCE = 5  # memory is scarce when less than 1 / _SCARCE of it is available


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory that may be used, and that is in use. Pages of files do not count as used, since the kernel drops them
    before it kills: they are most of what a container seems to use after an upload."""

    limit: int  # bytes
    used: int  # bytes
    contained: bool = False  # a container's limit, not the machine's size

    @property
    def is_scarce(self) -> bool:
        """Whether less than a fifth is available: of 500 MiB, when more than 400 are used."""
        return (self.limit - self.used) * _SCARCE < self.limit


@dataclass(frozen=True, slots=True)
class Groups:
    """The visible cgroups of one controller: this process's own first, the highest last."""

    version: Version
    folders: tuple[Path, ...]


def find_groups(controller: str, mounts: str, own: str) -> Groups | None:
    """The groups of a v1 `controller`, or of v2, by the texts of /proc/self/mountinfo and /proc/self/cgroup. None
    where no hierarchy with that controller is mounted."""
    paths = own_paths(own)
    found: dict[Version, Groups] = {}
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        root, point = before.split()[3:5]
        if kind == "cgroup" and controller in options.split(","):
            found.setdefault(1, Groups(1, _way_up(point, root, paths.get(controller, "/"))))
        elif kind == "cgroup2":
            found.setdefault(2, Groups(2, _way_up(point, root, paths.get("", "/"))))
    return found.get(1) or found.get(2)  # a hybrid machine has its controllers in v1


def _way_up(point: str, root: str, path: str) -> tuple[Path, ...]:
    """The folders from `path` up to the mount `point`, which shows the hierarchy from `root` on. A `path` outside of
    it is another cgroup namespace's: the mount point is then the group of this container."""
    prefix = root.rstrip("/")
    inside = path.removeprefix(prefix).strip("/") if f"{path}/".startswith(f"{prefix}/") else ""
    top = Path(point)
    folder = top / inside
    return (folder, *(above for above in folder.parents if above.is_relative_to(top)))


def parse_limit(text: str) -> int | None:
    """Bytes from memory.max or memory.limit_in_bytes; None for no limit."""
    text = text.strip()
    return int(text) if text.isdigit() and int(text) < _NO_LIMIT else None


def parse_cpu(quota: str, period: str) -> float | None:
    """Cpus from a quota and its period in microseconds; None for no limit ("max", or -1 in v1)."""
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else None


def parse_files(stat: str, version: Version) -> int:
    """Bytes of files' pages in a memory.stat, with those of all groups below."""
    prefix = "total_" if version == 1 else ""
    names = (f"{prefix}inactive_file", f"{prefix}active_file")
    fields = (line.split() for line in stat.splitlines())
    return sum(int(field[1]) for field in fields if len(field) == 2 and field[0] in names)


def parse_meminfo(text: str) -> Memory:
    """The machine's memory, from /proc/meminfo."""
    fields = dict(line.split(":", 1) for line in text.splitlines())
    total, available = (int(fields[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
    return Memory(total, total - available)


class Container:
    """Reads the limits and the use of this process's container."""

    def __init__(self, memory: Groups | None, cpu: Groups | None) -> None:
        self._memory = memory
        self._cpu = cpu
        self._machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")  # bytes

    def memory(self) -> Memory:
        """Memory of the container with the lowest limit; the machine's where there is none."""
        limits = {folder: limit for folder, limit in self._limits() if limit < self._machine}
        if self._memory is None or not limits:
            return parse_meminfo(_MEMINFO.read_text())
        folder = min(limits, key=limits.__getitem__)
        used = "memory.usage_in_bytes" if self._memory.version == 1 else "memory.current"
        files = parse_files(_read(folder / "memory.stat"), self._memory.version)
        return Memory(limits[folder], max(0, int(_read(folder / used) or "0") - files), contained=True)

    def _limits(self) -> Iterator[tuple[Path, int]]:
        if self._memory is not None:
            name = "memory.limit_in_bytes" if self._memory.version == 1 else "memory.max"
            for folder in self._memory.folders:
                if (limit := parse_limit(_read(folder / name))) is not None:
                    yield folder, limit

    def memory_is_scarce(self) -> bool:
        """Whether less than a fifth of the container's memory, or of the machine's, is available."""
        return self.memory().is_scarce or parse_meminfo(_MEMINFO.read_text()).is_scarce

    def out_of_memory_kills(self) -> int:
        """How many processes of this process's own group the kernel has killed for lack of memory."""
        return 0 if self._memory is None else out_of_memory_kills(self._memory.folders[0], self._memory.version)

    def cpus(self) -> float:
        """How many cpus this process may use, by its affinity and its container's quota: 0.5 is half of one."""
        limits = [float(len(os.sched_getaffinity(0)))]
        for folder in self._cpu.folders if self._cpu is not None else ():
            if self._cpu is not None and self._cpu.version == 1:
                texts = [_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")]
            else:
                texts = _read(folder / "cpu.max").split()
            if len(texts) == 2 and (limit := parse_cpu(texts[0].strip(), texts[1].strip())) is not None:
                limits.append(limit)
        return min(limits)


@functools.cache
def own_container() -> Container:
    """The container of this process; without a limit of its own it is the machine."""
    mounts, own = _read(_MOUNTS), _read(_OWN)
    return Container(find_groups("memory", mounts, own), find_groups("cpu", mounts, own))


def descriptors() -> int:
    """How many descriptors this process may open: the hard limit of a pod is often 20,000 or less."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _read(path: Path) -> str:
    """The text of a kernel's file; empty where it does not exist or may not be read."""
    with contextlib.suppress(OSError):
        return path.read_text()
    return ""
