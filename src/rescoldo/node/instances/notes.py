"""Notes: one JSON file for each instance, from which the node's successor adopts or removes it.

The node writes a note before the fork (the uid is known by then), again with the pid, and again when the instance
is ready. A note describes processes, so it need not survive a power cut and is never fsynced.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rescoldo.model.instance import Launch
from rescoldo.model.text import read_json


@dataclass(frozen=True, slots=True)
class Note:
    """The state of one instance, as its node last wrote it."""

    launch: Launch
    uid: int | None  # the instance's own uid; None without privileges
    address: str  # as in RunningInstance
    pid: int = 0  # 0: not forked when the note was written
    pid_start: int = 0  # clock ticks since boot: tells the process from a later one of the same pid
    ready: bool = False
    started_at: float = 0.0  # Unix seconds
    sandbox: str = ""  # name of its sandbox; empty where it has none outside of its process
    asks: bool = False  # its forks wait for an answer

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__} | {"launch": self.launch.to_json()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Note:
        return cls(**{**data, "launch": Launch.from_json(data["launch"])})


def write(path: Path, note: Note) -> None:
    """Replace the note at `path` atomically: a reader sees the old note or the new one."""
    prepare(path, note)
    put_in_place(path)


def prepare(path: Path, note: Note) -> None:
    """Write the note that `put_in_place` will move to `path`."""
    descriptor = os.open(_fresh(path), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(descriptor, json.dumps(note.to_json()).encode())
    finally:
        os.close(descriptor)


def put_in_place(path: Path) -> None:
    """Move the note that `prepare` wrote to `path`, atomically."""
    _fresh(path).replace(path)


def remove(path: Path) -> None:
    """Remove the note at `path`, and a prepared one."""
    path.unlink(missing_ok=True)
    _fresh(path).unlink(missing_ok=True)


def _fresh(path: Path) -> Path:
    return path.with_suffix(".new")


def read_all(folder: Path) -> Iterator[tuple[Path, Note | None]]:
    """Every note in `folder`; None for an unreadable one."""
    for path in sorted(folder.glob("*.json")):
        note = None
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            note = Note.from_json(read_json(path.read_bytes()))
        yield path, note
