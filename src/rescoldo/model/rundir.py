"""Chooses a platform's run folder: in memory if possible, and in a place that outlives a login.

At a user's last logout, logind removes `$XDG_RUNTIME_DIR` and, by default (RemoveIPC=yes), a regular user's files in
/dev/shm, while a platform in the background goes on. So a new platform never uses the first, and the second only if
logind leaves it alone.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from rescoldo.model.settings import Settings

SHARED_MEMORY = Path("/dev/shm")  # a tmpfs on every Linux
LOGINS = Path("/run/systemd/users")  # exists if logind runs
LINGERING = Path("/var/lib/systemd/linger")  # has a file for each user whose processes and folders stay
LAST_SYSTEM_UID = 999  # logind removes nothing of users up to this uid
LONGEST = 58  # bytes: HAProxy accepts 97 for a socket's path, and "/i/INSTANCE.sock" takes up to 39
MARK = "settings.json"


def run_dir_for(data: Path) -> Path:
    """Return the run folder of a new platform with this data directory.

    Its path is short, because HAProxy limits socket paths to 97 bytes. It is in memory, because a wake makes half a
    dozen files there: on ext4 they add 5 ms or more to a cold start, on tmpfs 0.1 ms.
    """
    uid, key = os.geteuid(), _key(data)
    for base in (Path("/run"), SHARED_MEMORY) if uid == 0 else _of_user(uid):
        if _in_memory(base):
            return base / f"rescoldo-{uid}" / key
    inside = data.absolute() / "run"
    if len(os.fsencode(inside)) <= LONGEST:
        return inside
    return Path("/var/tmp") / f"rescoldo-{uid}" / key


def last_settings(data: Path) -> Settings | None:
    """Return the settings of the last start with this data directory, including its run folder; None if there was none.

    Earlier versions wrote their settings only to the run folder, which was in one of several places.
    """
    place = data.absolute()
    owner = _owner(place)
    recorded = _settings(place / MARK, place, owner)
    if recorded is not None and recorded.run_path.is_dir():
        return recorded
    for folder in _earlier(place, os.geteuid() if owner is None else owner):
        if (found := _settings(folder / MARK, place, owner)) is not None:
            return found
    return recorded


def _of_user(uid: int) -> Iterator[Path]:
    """Yield a user's folders that no logout empties."""
    if uid <= LAST_SYSTEM_UID or not LOGINS.is_dir() or _lingers(uid):
        yield SHARED_MEMORY
    yield Path("/tmp")


def _lingers(uid: int) -> bool:
    try:
        return (LINGERING / pwd.getpwuid(uid).pw_name).exists()
    except KeyError:  # a uid without a name has no file there
        return False


def _earlier(place: Path, uid: int) -> Iterator[Path]:
    """Yield the possible run folders, including those of earlier versions."""
    bases = [Path("/run"), SHARED_MEMORY, Path(f"/run/user/{uid}"), Path("/tmp"), Path("/var/tmp")]
    if chosen := os.environ.get("XDG_RUNTIME_DIR"):
        bases.append(Path(chosen))
    yield from (base / f"rescoldo-{uid}" / _key(place) for base in bases)
    yield place / "run"


def _settings(file: Path, place: Path, owner: int | None) -> Settings | None:
    """Return the settings in `file`; None if another user wrote it, because they decide where the password is sent."""
    with suppress(OSError, ValueError, TypeError):
        info = file.lstat()
        if stat.S_ISREG(info.st_mode) and info.st_uid in (0, os.geteuid(), owner):
            found = Settings.load(file)
            return found if found.data_path == place else None
    return None


def _owner(place: Path) -> int | None:
    with suppress(OSError):
        return place.stat().st_uid
    return None


def _key(data: Path) -> str:
    return hashlib.sha256(os.fsencode(data.absolute())).hexdigest()[:8]


def _in_memory(folder: Path) -> bool:
    """Return whether `folder` is writable and on a tmpfs; the longest mount point above it decides."""
    if not os.access(folder, os.W_OK):
        return False
    kinds = {}
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, point, kind, *_ = line.split()
        if folder.is_relative_to(point):
            kinds[len(point)] = kind
    return bool(kinds) and kinds[max(kinds)] in ("tmpfs", "ramfs")
