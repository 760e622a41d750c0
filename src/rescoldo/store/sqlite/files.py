"""The files of a database, looked at from outside: whether somebody else removed, replaced or changed them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

SUFFIXES = ("", "-wal", "-shm")
Seen = tuple[int, int, int, int]  # device, inode, size in bytes, time of the last change in ns


class Files:
    """What they looked like when only their owner had written to them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: dict[str, Seen] = {}

    def note(self) -> None:
        """They are as they should be now."""
        for suffix in SUFFIXES:
            if (found := self._look(suffix)) is not None:
                self._seen.setdefault(suffix, found)
                # another inode is a loss that this must not hide
                if found[:2] == self._seen[suffix][:2]:
                    self._seen[suffix] = found

    def lost(self) -> str:
        """Which file was removed, or replaced by another; empty when none was."""
        for suffix, before in self._seen.items():
            found = self._look(suffix)
            if found is None or found[:2] != before[:2]:
                return f"{self._path.name}{suffix} was {'removed' if found is None else 'replaced'}"
        return ""

    def changed(self) -> str:
        """Which file somebody else has written to; it may be whole. Empty when none was.

        Memory that is mapped from a file that was cut short ends the process that reads it, so -shm gets its length
        back; SQLite makes its contents again.
        """
        for suffix, before in self._seen.items():
            found = self._look(suffix)
            if found is not None and found[2] < before[2]:
                if suffix == "-shm":
                    os.truncate(f"{self._path}{suffix}", before[2])
                return f"{self._path.name}{suffix} was cut short"
            # -shm is mapped: the time of its last change tells nothing
            if found is not None and suffix != "-shm" and found != before:
                return f"{self._path.name}{suffix} was overwritten"
        return ""

    def _look(self, suffix: str) -> Seen | None:
        try:
            info = Path(f"{self._path}{suffix}").stat()
        except OSError:
            return None
        return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns


def paths(database: Path) -> Iterator[Path]:
    """Of a database and what SQLite keeps beside it."""
    return (Path(f"{database}{suffix}") for suffix in SUFFIXES)
