"""Bounds what folders of archives take together on the disk: those used longest ago go first."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path


def used_at(folder: Path) -> float:
    """When a folder was last used, in Unix seconds: whoever uses one sets its time. 0 for one that is gone."""
    try:
        return folder.stat().st_mtime
    except OSError:
        return 0.0


def evict(
    sizes: Mapping[Path, int], room: int, now: float, *, spared: float, longest: float = math.inf,
    remove: Callable[[Path], bool],
) -> None:
    """Of the folders of `sizes` (bytes) keep those used last that fit into `room` bytes together, as seen `now`.

    One used within `spared` seconds is kept in any case, and takes its room; one not used for `longest` seconds goes in
    any case. `remove` returns whether it has removed a folder: somebody may be using it by then.

    In a room of 100, with 60, 30, 20 and 10 bytes, the one used last first: 60 and 30 stay, 20 do not fit and go, and
    10 fit again.
    """
    for folder in sorted(sizes, key=used_at, reverse=True):
        room -= sizes[folder]
        unused = now - used_at(folder)
        if (unused > longest or (room < 0 and unused > spared)) and remove(folder):
            room += sizes[folder]
