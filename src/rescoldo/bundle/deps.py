"""What a function needs from PyPI: installed and packed once for each set of requirements, kept in a cache folder.

The result is a layer: an archive of its own, which bundles name by its digest. So packages are installed, compiled,
compressed, sent and unpacked once, however often the functions that need them change.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rescoldo.bundle.archive import write_archive
from rescoldo.bundle.bytecode import compile_tree
from rescoldo.bundle.eviction import evict, used_at
from rescoldo.bundle.manifest import DEPENDENCIES, layer_manifest
from rescoldo.bundle.requirements import Requirements, without_credentials
from rescoldo.bundle.tree import collect
from rescoldo.model.errors import BuildFailed

ARCHIVE = "layer.tar.gz"
TAIL = 15  # of the installer's lines are shown when it fails
# Packages are packed once and unpacked near by: level 6 takes three times as long, and saves a tenth
PACKING_LEVEL = 1
CACHE_BYTES = 4 * 2**30  # of packed layers that are kept; beyond it the one that was used longest ago goes
IN_USE_SECONDS = 3600.0  # but for those used lately: a build may still take its copy
_SHEBANG = b"#!/usr/bin/env python3\n"

Progress = Callable[[str], None]


class Run(Protocol):
    """Runs the installer. It executes packages' own code, so it must not run as root."""

    def __call__(self, argv: Sequence[str], work: Path, on_line: Progress) -> int:
        """Run `argv` in the folder `work`, the only one it needs to write to; return its exit status."""
        ...


@dataclass(frozen=True, slots=True)
class Layer:
    """A packed set of installed requirements."""

    path: Path
    digest: str  # sha256 of the file, in hex
    size: int  # bytes

    def put_into(self, folder: Path) -> None:
        """Let `folder`/layer.tar.gz be this layer. Raises OSError."""
        place = folder / ARCHIVE
        if place.exists() and place.samefile(self.path):
            return
        place.unlink(missing_ok=True)
        try:
            place.hardlink_to(self.path)
        except OSError:  # another file system
            shutil.copyfile(self.path, place)


def default_cache() -> Path:
    """rescoldo/layers below $XDG_CACHE_HOME or ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "rescoldo" / "layers"


def make_layer(requirements: Requirements, cache: Path, run: Run, progress: Progress, *, fresh: bool = False) -> Layer:
    """The layer that holds `requirements`, made unless it is there (`fresh`: in any case).

    Safe to call from several processes at once. Raises BuildFailed with the installer's last lines.
    """
    target = cache / requirements.key
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(cache / f"{requirements.key}.lock"):
        if not fresh and (layer := _cached(target)) is not None:
            os.utime(target)
            progress(f"{requirements.count} requirement(s) from the cache")
            return layer
        # made by us and owned by root even where the installer is another user: it gets `work` to write to
        with tempfile.TemporaryDirectory(dir=cache, prefix="install-") as folder:
            installed = _install(requirements, Path(folder), run, progress)
            compile_tree(installed)
            made = Path(folder) / "made"
            made.mkdir()
            _pack(installed, made)
            if target.is_dir():
                target.rename(Path(folder) / "previous")
            made.rename(target)
    _trim(cache, time.time())
    layer = _cached(target)
    assert layer is not None
    return layer


def _trim(cache: Path, now: float) -> None:
    """Bound the layers in `cache` by CACHE_BYTES, at the moment `now` (Unix seconds)."""
    layers = {file.parent: _cached(file.parent) for file in cache.glob(f"*/{ARCHIVE}")}
    sizes = {folder: layer.size for folder, layer in layers.items() if layer is not None}

    def remove(folder: Path) -> bool:
        with suppress(BlockingIOError), _locked(cache / f"{folder.name}.lock", wait=False):
            if now - used_at(folder) > IN_USE_SECONDS:  # another process may have taken it in the moment between
                shutil.rmtree(folder, ignore_errors=True)
                return True
        return False

    evict(sizes, CACHE_BYTES, now, spared=IN_USE_SECONDS, remove=remove)


def _pack(installed: Path, folder: Path) -> None:
    entries = collect(installed, DEPENDENCIES, all_files=True)
    texts = {"manifest.json": layer_manifest().encode()}
    if not entries:  # nothing was to be installed here, by a marker
        texts[f"{DEPENDENCIES}/.empty"] = b""
    digest = write_archive(folder / ARCHIVE, entries, texts, level=PACKING_LEVEL)
    (folder / "layer.json").write_text(json.dumps({"digest": digest}))


def _cached(folder: Path) -> Layer | None:
    """The layer kept in `folder`; its content is not read again: who takes it in compares it with its digest."""
    try:
        digest = json.loads((folder / "layer.json").read_bytes())["digest"]
        return Layer(folder / ARCHIVE, digest, (folder / ARCHIVE).stat().st_size)
    except (OSError, ValueError, KeyError):
        return None


def _install(requirements: Requirements, folder: Path, run: Run, progress: Progress) -> Path:
    work = folder / "work"
    work.mkdir()
    file = work / "requirements.txt"
    file.touch(mode=0o600)  # it may hold credentials; `run` gives it to whom it runs the installer as
    file.write_text(requirements.text)
    target = work / DEPENDENCIES
    target.mkdir()
    last: deque[str] = deque(maxlen=TAIL)

    def on_line(line: str) -> None:
        line = requirements.hide(line).replace(str(file), requirements.shown)
        last.append(line)
        progress(line)

    argv = installer_command(file, target)
    progress(f"installing {requirements.count} requirement(s) with {'pip' if '-m' in argv else 'uv'}")
    status = run(argv, work, on_line)
    if status != 0:
        raise BuildFailed("the requirements could not be installed; output of the installer:\n  " + "\n  ".join(last))
    _take_over(target)
    return target


def find_uv() -> str | None:
    """uv on PATH, or beside the running Python."""
    beside = Path(sys.executable).with_name("uv")
    return shutil.which("uv") or (str(beside) if os.access(beside, os.X_OK) else None)


def installer_command(file: Path, target: Path) -> list[str]:
    """The command that installs the requirements in `file` into `target`: uv where present, else pip."""
    if uv := find_uv():
        # copies, never hard links: what is installed must not change with uv's cache
        options = ["--python", sys.executable, "--link-mode", "copy", "--no-progress"]
        return [uv, "pip", "install", *options, "--target", str(target), "-r", str(file)]
    options = ["--disable-pip-version-check", "--no-input", "--no-compile", "--progress-bar", "off"]
    options += ["--no-warn-conflicts", "--no-warn-script-location"]  # with what surrounds the target
    return [sys.executable, "-m", "pip", "install", *options, "--target", str(target), "-r", str(file)]


def _take_over(target: Path) -> None:
    """Remove what installers leave of themselves, and own the rest.

    Packages' own code has written all of it, as another user, and this writes to it as root: so no link in it may lead
    anywhere else. Raises BuildFailed.
    """
    root = target.resolve()
    for path in target.rglob("*"):
        if path.is_symlink() and not path.resolve().is_relative_to(root):
            raise BuildFailed(f"the requirements hold a link out of their folder: {path.relative_to(target)}")
    for lock in (target / ".lock", target / ".gitignore", target / "CACHEDIR.TAG"):
        lock.unlink(missing_ok=True)
    for folder in list(target.rglob("__pycache__")):
        folder.unlink() if folder.is_symlink() else shutil.rmtree(folder)
    for origin in target.glob("*.dist-info/direct_url.json"):  # installers leave credentials out themselves, PEP 610
        origin.write_text(without_credentials(origin.read_text()))
    for script in (target / "bin").glob("*"):
        if script.is_file() and not script.is_symlink():
            _find_python_on_path(script)
    if os.geteuid() == 0:
        for path in (target, *target.rglob("*")):
            os.chown(path, 0, 0, follow_symlinks=False)


def _find_python_on_path(script: Path) -> None:
    """Installers write the Python that installs into a script's first line, or into a shell's exec where its path is
    long. Where the script runs, another one is meant: the first on PATH."""
    content = script.read_bytes()
    first, _, rest = content.partition(b"\n")
    if first.startswith(b"#!/bin/sh") and rest.startswith(b"'''exec'"):
        rest = rest.split(b"\n", 2)[2]  # the exec, and the line that ends the string it is in
    elif not (first.startswith(b"#!") and b"python" in first.rpartition(b"/")[2]):
        return
    script.write_bytes(_SHEBANG + rest)


@contextmanager
def _locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Without `wait` raises BlockingIOError where another process has it."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
