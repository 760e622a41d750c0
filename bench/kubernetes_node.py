"""What pods of the test cluster use, seen from this machine, which is the cluster's node."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from processes import SPARE, cpu_seconds, descendants
from rows import MeasurementFailed
from support.live import comm, pss

GROUP = "rescoldo-kubernetes"  # of all pods, as tests/kubernetes/cluster/cluster makes it
HIERARCHIES = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/memory"))  # cgroup v2, and one of v1's
ZYGOTE = "rescoldo-zyg"  # a process's name has 15 characters at most
PAUSE = "pause"


def folder_of(pod: Mapping[str, Any]) -> Path:
    """Return the cgroup of a pod. Raises MeasurementFailed if it is not on this machine."""
    uid = pod["metadata"]["uid"]
    for place in HIERARCHIES:
        for found in (place / GROUP).glob(f"kubepods/**/pod{uid}"):
            return found
    raise MeasurementFailed(f"pod {pod['metadata']['name']} has no cgroup below {GROUP}: is its node this machine?")


def processes(folders: Iterable[Path]) -> list[int]:
    """Return the processes in these cgroups, by this machine's numbers."""
    return [
        int(pid)
        for folder in folders
        for file in folder.rglob("cgroup.procs")
        for pid in file.read_text().split()
    ]  # fmt: skip


def container_processes(folders: Iterable[Path]) -> list[int]:
    """Return the processes of the containers, without the one that holds a pod's namespaces."""
    return [pid for pid in processes(folders) if comm(pid) != PAUSE]


def instances(folders: Iterable[Path]) -> list[int]:
    """Return the processes of awake functions: the descendants of zygotes, except spares."""
    zygotes = [pid for pid in processes(folders) if comm(pid) == ZYGOTE]
    return [pid for zygote in zygotes for pid in descendants(zygote) if comm(pid) != SPARE]


def spares(folders: Iterable[Path]) -> int:
    """Return the number of spares."""
    return sum(comm(pid) == SPARE for pid in processes(folders))


def used_seconds(folders: Iterable[Path]) -> float:
    """Return the CPU seconds of all processes so far, ended children included."""
    total = 0.0
    for pid in processes(folders):
        with suppress(OSError):  # the process has ended, and its parent's time includes it
            total += cpu_seconds(pid, reaped=True)
    return total


def memory(folder: Path) -> int:
    """Return the proportional set size of all processes of a pod, in bytes."""
    total = 0
    for pid in processes([folder]):
        with suppress(OSError):
            total += pss(pid)
    return total


def inside(folder: Path, path: str) -> Path:
    """Return the path by which this machine reaches a file of the container that runs zygotes."""
    pid = next((pid for pid in processes([folder]) if comm(pid) == ZYGOTE), None)
    if pid is None:
        raise MeasurementFailed(f"no zygote runs in {folder}")
    return Path(f"/proc/{pid}/root", path.lstrip("/"))
