"""What the node writes down of each instance, so that its successor can adopt or remove it.

A note is written before the fork (the uid is then known), with the pid once there is one, and when the
instance is ready. It describes processes, so it need not survive a power cut: it is never fsynced.
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
    """One instance as its node left it."""

    launch: Launch
    uid: int | None  # its own uid; None without privileges
    address: str  # as in RunningInstance
    pid: int = 0  # 0: not forked yet, as far as was written
    pid_start: int = 0  # clock ticks since boot: tells the process from a later one of the same pid
    ready: bool = False
    started_at: float = 0.0  # Unix seconds
    sandbox: str = ""  # its sandbox, where it has one outside of its process

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__} | {"launch": self.launch.to_json()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Note:
        return cls(**{**data, "launch": Launch.from_json(data["launch"])})


def write(path: Path, note: Note) -> None:
    """Replace the note at `path` at once: a reader sees the old one or the new one."""
    prepare(path, note)
    put_in_place(path)


def prepare(path: Path, note: Note) -> None:
    """Write what `put_in_place` will replace the note at `path` with."""
    descriptor = os.open(_fresh(path), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(descriptor, json.dumps(note.to_json()).encode())
    finally:
        os.close(descriptor)


def put_in_place(path: Path) -> None:
    """See `prepare`."""
    _fresh(path).replace(path)


def remove(path: Path) -> None:
    """Remove the note at `path`, and what may have been prepared for it."""
    path.unlink(missing_ok=True)
    _fresh(path).unlink(missing_ok=True)


def _fresh(path: Path) -> Path:
    return path.with_suffix(".new")


def read_all(folder: Path) -> Iterator[tuple[Path, Note | None]]:
    """Every note in `folder`; None for one that cannot be read."""
    for path in sorted(folder.glob("*.json")):
        note = None
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            note = Note.from_json(read_json(path.read_bytes()))
        yield path, note
