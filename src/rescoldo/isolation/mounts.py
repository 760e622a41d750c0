"""What a process of another uid sees of the file system: its own mount namespace.

An interpreter below /root (mode 0700) cannot be read by another uid, and homes must not be. So a
directory that is hidden, or that nobody but its owner may traverse, is covered by an empty tmpfs, and
what is needed below it is bound back at the same path. Nothing here changes a mode or an owner on disk.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from rescoldo.isolation.syscalls import (
    CLONE_NEWNS,
    MS_BIND,
    MS_NODEV,
    MS_NOSUID,
    MS_PRIVATE,
    MS_RDONLY,
    MS_REC,
    MS_REMOUNT,
    mount,
    unshare,
)

HOMES = ("/root", "/home")
SCRATCH = ("/tmp", "/var/tmp", "/dev/shm")
SCRATCH_SIZE = 64 * 2**20  # bytes in each scratch directory

Kind = Literal["hide", "scratch", "read", "write"]
_ORDER: dict[Kind, int] = {"hide": 0, "scratch": 1, "read": 2, "write": 3}
_SAFE = MS_NOSUID | MS_NODEV


@dataclass(frozen=True, slots=True)
class View:
    """Which paths stay visible; everything not named here stays as the host has it."""

    read: tuple[str, ...] = ()  # shown read-only where an ancestor is covered
    write: tuple[str, ...] = ()  # shown writable (by the modes on disk)
    hide: tuple[str, ...] = HOMES  # covered, read-only
    scratch: tuple[str, ...] = SCRATCH  # covered by an empty, writable, sticky tmpfs

    def to_json(self) -> dict[str, Any]:
        return {name: list(getattr(self, name)) for name in ("read", "write", "hide", "scratch")}

    @classmethod
    def from_json(cls, data: Mapping[str, Iterable[str]]) -> View:
        return cls(**{name: tuple(paths) for name, paths in data.items()})


@dataclass(frozen=True, slots=True)
class Step:
    """One directory to cover or to show, after those above it."""

    path: str
    kind: Kind


def traversable_by_others(path: str) -> bool:
    """Whether any uid may pass through the directory `path`."""
    try:
        return bool(Path(path).stat().st_mode & 0o001)
    except OSError:
        return False


def plan(view: View, open_to_all: Callable[[str], bool] = traversable_by_others) -> list[Step]:
    """The steps that make `view`, parents before children, none that changes nothing."""
    wanted: dict[str, Kind] = {}

    def want(path: str, kind: Kind) -> None:
        if path not in wanted or _ORDER[kind] > _ORDER[wanted[path]]:
            wanted[path] = kind

    for path in view.hide:
        want(path, "hide")
    for path in view.scratch:
        want(path, "scratch")
    shown: list[tuple[str, Kind]] = [(path, "read") for path in view.read]
    shown += [(path, "write") for path in view.write]
    tops = {path for path, _ in shown}
    for path, kind in shown:
        want(path, kind)
        for parent in _parents(path):
            if parent in tops:
                break  # a path shown above this one brings its own ancestors
            if not open_to_all(parent):
                want(parent, "hide")
    return _needed(wanted)


def _parents(path: str) -> list[str]:
    """Ancestors, nearest first, without the root."""
    return [str(parent) for parent in PurePosixPath(path).parents][:-1]


def _needed(wanted: Mapping[str, Kind]) -> list[Step]:
    steps: dict[str, Kind] = {}
    for path in sorted(wanted, key=lambda path: path.count("/")):
        kind = wanted[path]
        around = next((steps[parent] for parent in _parents(path) if parent in steps), None)
        covered = around in ("hide", "scratch")
        if kind == "hide":
            useful = not covered
        elif kind == "scratch":
            useful = True
        else:
            useful = covered or (around == "read" and kind == "write")
        if useful:
            steps[path] = kind
    return [Step(path, kind) for path, kind in steps.items()]


def enter(view: View) -> list[Step]:
    """Give this process a mount namespace of its own that shows `view`; return the steps taken.

    Needs CAP_SYS_ADMIN; raises OSError. Paths that do not exist are left out.
    """
    unshare(CLONE_NEWNS)
    mount("none", "/", flags=MS_REC | MS_PRIVATE)
    steps = [step for step in plan(view) if step.kind == "scratch" or Path(step.path).exists()]
    _apply(steps)
    for step in steps:
        if step.kind == "hide":
            mount("none", step.path, flags=MS_REMOUNT | MS_BIND | MS_RDONLY | _SAFE)
    return steps


def renew_scratch(steps: Iterable[Step]) -> None:
    """Give this process (in a namespace that `enter` made) empty scratch directories of its own.

    What was shown below a scratch directory is shown again.
    """
    unshare(CLONE_NEWNS)  # everything is private already, and the copy stays so
    steps = list(steps)
    scratch = [step.path for step in steps if step.kind == "scratch"]
    _apply([step for step in steps if step.path in scratch or any(p in scratch for p in _parents(step.path))])


def _apply(steps: list[Step]) -> None:
    # Opened before anything is covered: the way back to what is to be shown.
    sources = {step.path: os.open(step.path, os.O_PATH | os.O_CLOEXEC) for step in steps if _is_shown(step)}
    umask = os.umask(0o022)  # the directories that lead to what is shown are for everyone
    try:
        for step in steps:
            if _is_shown(step):
                _show(step, sources[step.path])
            elif step.kind == "scratch":
                if _make_directory(step.path):
                    mount("tmpfs", step.path, "tmpfs", _SAFE, f"mode=1777,size={SCRATCH_SIZE}")
            else:
                mount("tmpfs", step.path, "tmpfs", _SAFE, "mode=0755,size=1m")
    finally:
        os.umask(umask)
        for descriptor in sources.values():
            os.close(descriptor)


def _is_shown(step: Step) -> bool:
    return step.kind in ("read", "write")


def _make_directory(path: str) -> bool:
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError:
        return False  # the host has none and lets us make none: there is nothing to cover
    return True


def _show(step: Step, source: int) -> None:
    origin = f"/proc/self/fd/{source}"
    target = Path(step.path)
    if Path(origin).is_dir():
        target.mkdir(parents=True, exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    mount(origin, step.path, flags=MS_BIND | MS_REC)
    if step.kind == "read":
        mount("none", step.path, flags=MS_REMOUNT | MS_BIND | MS_RDONLY | _SAFE)
