"""Makes, checks and clears the folders of a platform."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

from rescoldo.model.errors import InvalidInput
from rescoldo.model.settings import Settings

PROBE_BYTES = 4096  # an empty file would fit on a full disk


def make_run(settings: Settings) -> None:
    """Make the run folder. Raises OSError, InvalidInput when another user owns a folder of that name."""
    _make_parent(settings.run_path.parent)
    make(settings.run_path, 0o711)


def make_sockets(settings: Settings) -> None:
    """Make the folder of the sockets between the edge and the controller. Raises OSError, InvalidInput."""
    make(settings.wake_socket.parent, 0o711)


def clear(settings: Settings) -> None:
    """Remove the runtime directory; the data stays."""
    shutil.rmtree(settings.run_path, ignore_errors=True)


def is_same(path: Path, opened: int, *, follow_symlinks: bool = True) -> bool:
    """Whether `path` is now the file that the descriptor `opened` refers to."""
    try:
        there, ours = path.stat(follow_symlinks=follow_symlinks), os.fstat(opened)
    except OSError:
        return False
    return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)


def _make_parent(folder: Path) -> None:
    """Make the folder that the runtime directories of one user share. Raises InvalidInput when another user owns a
    folder of that name, which may happen in a place like /dev/shm."""
    try:
        folder.mkdir(parents=True)
        folder.chmod(0o711)
    except FileExistsError:
        info = folder.lstat()
        if not stat.S_ISDIR(info.st_mode) or info.st_uid not in (0, os.geteuid()):
            raise InvalidInput(f"{folder} belongs to another user (uid {info.st_uid}); remove it") from None


def make(folder: Path, mode: int) -> None:
    """Make a folder with this mode. Raises OSError, InvalidInput when another user owns it."""
    folder.mkdir(parents=True, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
        remedy = "name a folder of your own in it" if folder.is_mount() else "remove it"
        raise InvalidInput(f"{folder} belongs to another user; {remedy}, or choose another data directory")
    folder.chmod(mode)
    check_room(folder)


def check_room(folder: Path) -> None:
    """Raise OSError unless a file in `folder` can be written."""
    probe = folder / ".probe"
    try:
        probe.write_bytes(bytes(PROBE_BYTES))
    finally:
        probe.unlink(missing_ok=True)
