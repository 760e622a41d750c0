"""Collects the files of a folder that go into a bundle."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rescoldo.model.errors import BuildFailed

SKIPPED = frozenset(
    {"__pycache__", ".git", ".hg", ".svn", ".venv", "venv", ".tox", ".nox", ".mypy_cache", ".ruff_cache"}
    | {".pytest_cache", ".hypothesis", ".idea", ".vscode", ".DS_Store"}
)


@dataclass(frozen=True, slots=True)
class BundleFile:
    """One file or symbolic link of a bundle."""

    name: str  # path inside the bundle
    file: Path
    executable: bool = False
    link: str = ""  # target, relative to the link's folder; empty: it is a file


def collect(
    root: Path, prefix: str, *, skip: frozenset[Path] = frozenset(), all_files: bool = False
) -> list[BundleFile]:
    """Return the files below `root`, sorted, with names below `prefix`; `skip` are resolved folders to leave out.

    Without `all_files`, caches, virtual environments and version control are left out. Raises BuildFailed for links
    that lead out of `root` or nowhere, and for sockets, pipes and devices.
    """
    real = root.resolve()
    return sorted(_walk(real, real, prefix, skip, all_files), key=lambda entry: entry.name)


def _walk(folder: Path, root: Path, prefix: str, skip: frozenset[Path], all_files: bool) -> Iterator[BundleFile]:
    for item in sorted(os.scandir(folder), key=lambda found: found.name):
        path = Path(item.path)
        name = f"{prefix}/{path.relative_to(root).as_posix()}"
        if not all_files and (item.name in SKIPPED or item.name.endswith((".pyc", ".pyo"))):
            continue
        if item.is_symlink():
            yield BundleFile(name, path, link=_inside(path, root))
        elif item.is_dir():
            if path not in skip and (all_files or not (path / "pyvenv.cfg").exists()):
                yield from _walk(path, root, prefix, skip, all_files)
        elif item.is_file():
            yield BundleFile(name, path, executable=bool(item.stat().st_mode & stat.S_IXUSR))
        else:
            raise BuildFailed(f"{path}: neither a file nor a folder; a bundle cannot hold it")


def _inside(link: Path, root: Path) -> str:
    target = link.resolve()
    if not target.is_relative_to(root):
        raise BuildFailed(f"{link}: the link leads out of {root}; copy what it points to into the folder")
    if not target.exists():
        raise BuildFailed(f"{link}: the link leads nowhere; remove it")
    return os.path.relpath(target, link.parent)
