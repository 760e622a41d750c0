"""The data directory that a user means: a volume that belongs to root holds one, and cannot be one.

Kubernetes mounts an emptyDir with mode 0777, or 2775 with the pod's fsGroup, and it stays root's, whatever uid the
container has. A data directory has mode 0700 and belongs to the platform's user, so it is a folder in the volume.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

NAME = "rescoldo"
_PIDS_OF_MACHINE = 0xEFFF_FFFC  # PROC_PID_INIT_INO in include/linux/proc_ns.h: users log in there


def data_dir(named: Path) -> Path:
    """Return the data directory, absolute, where a user has named `named`: itself, or the folder `rescoldo` in it if it
    is a mount point of root's that this user may write to.

    In such a folder others can put another in the place of ours, unless its sticky bit is set. So it is used only in a
    container where nobody else has a process; a folder that is there and ours is found at any time. Containers that
    share a volume trust each other.
    """
    place = named.absolute()
    inside = place / NAME
    if _is_volume_of_root(place) and (_is_own_folder(inside) or _is_sticky(place) or _are_alone()):
        return inside
    return place


def _is_volume_of_root(place: Path) -> bool:
    with suppress(OSError):
        return 0 == place.stat().st_uid != os.geteuid() and place.is_mount() and os.access(place, os.W_OK | os.X_OK)
    return False


def _is_own_folder(place: Path) -> bool:
    with suppress(OSError):
        found = place.lstat()
        return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
    return False


def _is_sticky(place: Path) -> bool:
    return bool(place.stat().st_mode & stat.S_ISVTX)


def _are_alone() -> bool:
    """Whether this is a container, which has a PID namespace, and all processes in it are root's or this user's."""
    if Path("/proc/self/ns/pid").stat().st_ino == _PIDS_OF_MACHINE:
        return False
    for process in Path("/proc").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended
            if process.name.isdigit() and _uid_of(process) not in (0, os.geteuid()):
                return False
    return True


def _uid_of(process: Path) -> int | None:
    """Return the effective uid of a process; None if it cannot be read. (Its folder may be root's all the same.)"""
    with suppress(PermissionError):
        for line in (process / "status").read_text().splitlines():
            if line.startswith("Uid:"):
                return int(line.split()[2])
    return None
