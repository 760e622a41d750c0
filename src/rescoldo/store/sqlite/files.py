"""Detects that another process removed, replaced or changed the files of a database."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

SUFFIXES = ("", "-wal", "-shm")
Seen = tuple[int, int, int, int]  # device, inode, size in bytes, time of the last change in ns


class Files:
    """The state of a database's files after the last write of their owner."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: dict[str, Seen] = {}

    def note(self) -> None:
        """Record the files' present state as right."""
        for suffix in SUFFIXES:
            if (found := self._look(suffix)) is not None:
                self._seen.setdefault(suffix, found)
                # a new inode means that the file was replaced: keep the old state, so that `lost` reports it
                if found[:2] == self._seen[suffix][:2]:
                    self._seen[suffix] = found

    def lost(self) -> str:
        """Name the file that was removed or replaced; empty if none was."""
        for suffix, before in self._seen.items():
            found = self._look(suffix)
            if found is None or found[:2] != before[:2]:
                return f"{self._path.name}{suffix} was {'removed' if found is None else 'replaced'}"
        return ""

    def changed(self) -> str:
        """Name the file that another process wrote to, though perhaps without damage; empty if there is none.

        Reading mapped memory beyond the end of a truncated file kills the process. So -shm gets its length back; SQLite
        rebuilds its contents.
        """
        for suffix, before in self._seen.items():
            found = self._look(suffix)
            if found is not None and found[2] < before[2]:
                if suffix == "-shm":
                    os.truncate(f"{self._path}{suffix}", before[2])
                return f"{self._path.name}{suffix} was cut short"
            # -shm is mapped memory: the time of its last change means nothing
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
    """Return the paths of a database and of the files that SQLite keeps beside it."""
    return (Path(f"{database}{suffix}") for suffix in SUFFIXES)
