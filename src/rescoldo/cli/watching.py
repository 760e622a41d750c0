"""Finds saved files of a project and the functions they belong to. The only module that imports watchfiles."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from watchfiles import DefaultFilter, watch

from rescoldo.cli.project import Project
from rescoldo.stack.file import StackFunction

# One save of an editor is several changes. A batch ends after STEP without a change.
STEP = 25  # milliseconds
DEBOUNCE = 400  # milliseconds: continuous changes form a batch at least this often
TICK = 100  # milliseconds
OLD = 10.0  # seconds: a file with an older time was copied or moved here and kept its time
STACK_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class Saved:
    """A batch of changed files."""

    paths: frozenset[Path]
    at: float  # Unix seconds of the last save

    @property
    def stack(self) -> bool:
        """Whether the stack file or an environment file may be among the files."""
        return any(path.suffix in STACK_SUFFIXES for path in self.paths)

    def functions(self, project: Project) -> list[StackFunction]:
        """Return the functions whose handler's folder has one of the files; all functions for `configuration.copy`."""
        copies = [folder.resolve() for folder in project.copy]
        if any(path.is_relative_to(folder) for path in self.paths for folder in copies):
            return list(project.functions)
        return [f for f in project.functions if any(path.is_relative_to(f.handler.resolve()) for path in self.paths)]


def saves(project: Project, folder: Path) -> Iterator[Saved | None]:
    """Yield saves below `folder` and in the functions' own folders, for ever. Yields None about ten times a second
    without a save; the first None means that the watch has begun."""
    ours = [f.handler.resolve() for f in project.functions] + [f.resolve() for f in project.copy]
    # a build writes these files itself, so they are no saves
    built, usual = Path("build").resolve(), DefaultFilter()

    def wanted(change: object, name: str) -> bool:
        path = Path(name)
        mine = path.suffix in STACK_SUFFIXES or any(path.is_relative_to(place) for place in ours)
        return mine and not path.is_relative_to(built) and usual(change, name)  # type: ignore[arg-type]

    for batch in watch(
        *_outermost([folder.resolve(), *ours]),
        watch_filter=wanted,
        debounce=DEBOUNCE,
        step=STEP,
        rust_timeout=TICK,
        yield_on_timeout=True,
        ignore_permission_denied=True,
    ):
        paths = frozenset(Path(name) for _, name in batch)
        yield Saved(paths, _saved_at(paths)) if paths else None


def _outermost(folders: list[Path]) -> list[Path]:
    """Return the `folders` that exist, without those inside others."""
    there = {folder for folder in folders if folder.exists()}
    return sorted(folder for folder in there if not there & set(folder.parents))


def _saved_at(paths: frozenset[Path]) -> float:
    now = time.time()
    times = [path.stat().st_mtime for path in paths if path.is_file()]
    return max((moment for moment in times if now - OLD < moment <= now), default=now)
