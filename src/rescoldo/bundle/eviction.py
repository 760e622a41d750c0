"""Bounds the disk space of folders of archives: the least recently used go first."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path


def used_at(folder: Path) -> float:
    """Return when a folder was last used, in Unix seconds; 0 if it is gone. Users of a folder set its mtime."""
    try:
        return folder.stat().st_mtime
    except OSError:
        return 0.0


def evict(
    sizes: Mapping[Path, int], room: int, now: float, *, spared: float, longest: float = math.inf,
    remove: Callable[[Path], bool],
) -> None:
    """Keep the most recently used folders of `sizes` (bytes) that fit into `room` bytes together; remove the others.

    `now` is in Unix seconds. A folder used within `spared` seconds always stays, and takes its room; a folder unused
    for `longest` seconds always goes. `remove` returns whether it removed the folder, which may be in use again.

    With a room of 100 bytes and folders of 60, 30, 20 and 10, most recently used first: 60 and 30 stay, 20 does not fit
    and goes, and 10 fits again.
    """
    for folder in sorted(sizes, key=used_at, reverse=True):
        room -= sizes[folder]
        unused = now - used_at(folder)
        if (unused > longest or (room < 0 and unused > spared)) and remove(folder):
            room += sizes[folder]
