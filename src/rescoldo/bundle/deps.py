"""Installs and packs a function's requirements, once for each set, and keeps the result in a cache folder.

The result is a layer: a separate archive, which bundles name by its digest. So packages are installed, compiled,
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
TAIL = 15  # lines of a failed installer's output that a user sees
# Packages are packed once and unpacked near by: level 6 takes three times as long, and saves a tenth
PACKING_LEVEL = 1
CACHE_BYTES = 4 * 2**30  # of packed layers in the cache; beyond it, the least recently used go
IN_USE_SECONDS = 3600.0  # a layer used within this time always stays: a build may still copy it
_SHEBANG = b"#!/usr/bin/env python3\n"

Progress = Callable[[str], None]


class Run(Protocol):
    """Runs the installer. It executes packages' own code, so it must not run as root."""

    def __call__(self, argv: Sequence[str], work: Path, on_line: Progress) -> int:
        """Run `argv` in the folder `work`, the only one that it needs to write to; return its exit status."""
        ...


@dataclass(frozen=True, slots=True)
class Layer:
    """A packed set of installed requirements."""

    path: Path
    digest: str  # sha256 of the file, in hex
    size: int  # bytes

    def put_into(self, folder: Path) -> None:
        """Put this layer at `folder`/layer.tar.gz, as a hard link if possible. Raises OSError."""
        place = folder / ARCHIVE
        if place.exists() and place.samefile(self.path):
            return
        place.unlink(missing_ok=True)
        try:
            place.hardlink_to(self.path)
        except OSError:  # another file system
            shutil.copyfile(self.path, place)


def default_cache() -> Path:
    """Return rescoldo/layers below $XDG_CACHE_HOME or ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "rescoldo" / "layers"


def make_layer(requirements: Requirements, cache: Path, run: Run, progress: Progress, *, fresh: bool = False) -> Layer:
    """Return the layer of `requirements`; install and pack it if the cache lacks it, or in any case if `fresh`.

    Safe to call from several processes at once. Raises BuildFailed with the installer's last lines.
    """
    target = cache / requirements.key
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(cache / f"{requirements.key}.lock"):
        if not fresh and (layer := _cached(target)) is not None:
            os.utime(target)
            progress(f"{requirements.count} requirement(s) from the cache")
            return layer
        # this process makes and owns the folder; an installer that is another user may only write to `work`
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
    """Limit the layers in `cache` to CACHE_BYTES; `now` is in Unix seconds."""
    layers = {file.parent: _cached(file.parent) for file in cache.glob(f"*/{ARCHIVE}")}
    sizes = {folder: layer.size for folder, layer in layers.items() if layer is not None}

    def remove(folder: Path) -> bool:
        with suppress(BlockingIOError), _locked(cache / f"{folder.name}.lock", wait=False):
            if now - used_at(folder) > IN_USE_SECONDS:  # another process may have used it since
                shutil.rmtree(folder, ignore_errors=True)
                return True
        return False

    evict(sizes, CACHE_BYTES, now, spared=IN_USE_SECONDS, remove=remove)


def _pack(installed: Path, folder: Path) -> None:
    entries = collect(installed, DEPENDENCIES, all_files=True)
    texts = {"manifest.json": layer_manifest().encode()}
    if not entries:  # environment markers excluded every requirement on this machine
        texts[f"{DEPENDENCIES}/.empty"] = b""
    digest = write_archive(folder / ARCHIVE, entries, texts, level=PACKING_LEVEL)
    (folder / "layer.json").write_text(json.dumps({"digest": digest}))


def _cached(folder: Path) -> Layer | None:
    """Return the layer in `folder`, or None. Its content is not verified here: a platform that receives it does so."""
    try:
        digest = json.loads((folder / "layer.json").read_bytes())["digest"]
        return Layer(folder / ARCHIVE, digest, (folder / ARCHIVE).stat().st_size)
    except (OSError, ValueError, KeyError):
        return None


def _install(requirements: Requirements, folder: Path, run: Run, progress: Progress) -> Path:
    work = folder / "work"
    work.mkdir()
    file = work / "requirements.txt"
    file.touch(mode=0o600)  # it may hold credentials; `run` gives it to the installer's user
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
    """Return the path of uv on PATH, or beside the running Python; None if there is none."""
    beside = Path(sys.executable).with_name("uv")
    return shutil.which("uv") or (str(beside) if os.access(beside, os.X_OK) else None)


def installer_command(file: Path, target: Path) -> list[str]:
    """Return the command that installs the requirements in `file` into `target`: with uv if present, else with pip."""
    if uv := find_uv():
        # copies, never hard links: a change in uv's cache must not change the layer
        options = ["--python", sys.executable, "--link-mode", "copy", "--no-progress"]
        return [uv, "pip", "install", *options, "--target", str(target), "-r", str(file)]
    options = ["--disable-pip-version-check", "--no-input", "--no-compile", "--progress-bar", "off"]
    options += ["--no-warn-conflicts", "--no-warn-script-location"]  # about packages outside of the target
    return [sys.executable, "-m", "pip", "install", *options, "--target", str(target), "-r", str(file)]


def _take_over(target: Path) -> None:
    """Remove the installer's own files, and give the rest to root.

    The packages' own code wrote all of it, as another user, and this function writes to it as root: so no link may
    lead out of `target`. Raises BuildFailed.
    """
    root = target.resolve()
    for path in target.rglob("*"):
        if path.is_symlink() and not path.resolve().is_relative_to(root):
            raise BuildFailed(f"the requirements hold a link out of their folder: {path.relative_to(target)}")
    for lock in (target / ".lock", target / ".gitignore", target / "CACHEDIR.TAG"):
        lock.unlink(missing_ok=True)
    for folder in list(target.rglob("__pycache__")):
        folder.unlink() if folder.is_symlink() else shutil.rmtree(folder)
    for origin in target.glob("*.dist-info/direct_url.json"):  # PEP 610 has installers leave credentials out; make sure
        origin.write_text(without_credentials(origin.read_text()))
    for script in (target / "bin").glob("*"):
        if script.is_file() and not script.is_symlink():
            _find_python_on_path(script)
    if os.geteuid() == 0:
        for path in (target, *target.rglob("*")):
            os.chown(path, 0, 0, follow_symlinks=False)


def _find_python_on_path(script: Path) -> None:
    """Make `script` run the first Python on PATH.

    Installers write the path of their own Python into the first line or, if that path is long, into a shell's exec. An
    instance may have another Python.
    """
    content = script.read_bytes()
    first, _, rest = content.partition(b"\n")
    if first.startswith(b"#!/bin/sh") and rest.startswith(b"'''exec'"):
        rest = rest.split(b"\n", 2)[2]  # drop the exec, and the line that ends the string around it
    elif not (first.startswith(b"#!") and b"python" in first.rpartition(b"/")[2]):
        return
    script.write_bytes(_SHEBANG + rest)


@contextmanager
def _locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock at `path`. Without `wait`, raise BlockingIOError if another process holds it."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
