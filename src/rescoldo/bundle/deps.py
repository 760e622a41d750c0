"""What a function needs from PyPI: installed once for each set of requirements, kept in a cache folder."""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rescoldo.bundle.bytecode import compile_tree
from rescoldo.bundle.manifest import python_here
from rescoldo.model.errors import BuildFailed

MAX_FILE = 2**20  # bytes of a requirements.txt
MAX_LINES = 10_000  # of it; hashes take a line each
TAIL = 15  # of the installer's lines are shown when it fails
# What they name lies beside the file and may change while the file does not: the cache would not notice.
_LOCAL_OPTIONS = ("-r", "--requirement", "-c", "--constraint", "-e", "--editable")
_LOCAL_PATHS = ("./", "../", "/", "file:", "~")

Progress = Callable[[str], None]


class Run(Protocol):
    """Runs the installer. It executes packages' own code, so it must not run as root."""

    def __call__(self, argv: Sequence[str], work: Path, on_line: Progress) -> int:
        """Run `argv` in the folder `work`, the only one it needs to write to; return its exit status."""
        ...


@dataclass(frozen=True, slots=True)
class Requirements:
    """The content of a requirements.txt without comments: what the cache is keyed by."""

    lines: tuple[str, ...]

    @property
    def key(self) -> str:
        """sha256 over the lines, this Python's version and this machine's architecture, in hex."""
        parts = [python_here(), sys.implementation.name, sys.platform, platform.machine(), *self.lines]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def read_requirements(file: Path, shown: str) -> Requirements:
    """Read a requirements.txt; a missing one is empty. Raises BuildFailed, naming `shown` and the line, for
    what points to other local files."""
    if not file.is_file():
        return Requirements(())
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_FILE + 1)
        text = data.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BuildFailed(f"{shown}: cannot be read: {error}") from error
    if len(data) > MAX_FILE or data.count(b"\n") > MAX_LINES:
        raise BuildFailed(f"{shown}: at most {MAX_FILE:,} bytes and {MAX_LINES:,} lines are allowed")
    lines = []
    # a backslash at a line's end continues it; the count of lines stays right without joining
    for number, line in enumerate(text.splitlines(), start=1):
        kept = line.split(" #")[0].strip()
        if not kept or kept.startswith("#"):
            continue
        if kept.startswith(_LOCAL_OPTIONS) or kept.startswith(_LOCAL_PATHS) or " @ file:" in kept:
            raise BuildFailed(
                f"{shown}:{number}: {kept!r} points to a local file; write the requirement itself here, "
                "and put local packages into the function's folder or `configuration.copy`"
            )
        lines.append(kept)
    return Requirements(tuple(lines))


def default_cache() -> Path:
    """rescoldo/deps below $XDG_CACHE_HOME or ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "rescoldo" / "deps"


def install(requirements: Requirements, cache: Path, run: Run, progress: Progress, *, fresh: bool = False) -> Path:
    """The folder that holds `requirements`, installed unless it is there (`fresh`: in any case).

    Safe to call from several processes at once. Raises BuildFailed with the installer's last lines.
    """
    target = cache / requirements.key
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(cache / f"{requirements.key}.lock"):
        if target.is_dir() and not fresh:
            progress(f"{len(requirements.lines)} requirement(s), installed before")
            return target
        # made by us and owned by root even where the installer is another user: it gets `work` to write to
        with tempfile.TemporaryDirectory(dir=cache, prefix="install-") as folder:
            staged = _install(requirements, Path(folder), run, progress)
            compile_tree(staged)
            if target.is_dir():
                target.rename(Path(folder) / "previous")
            staged.rename(target)
    return target


def _install(requirements: Requirements, folder: Path, run: Run, progress: Progress) -> Path:
    work = folder / "work"
    work.mkdir()
    file = work / "requirements.txt"
    file.write_text("\n".join(requirements.lines) + "\n")
    target = work / "deps"
    target.mkdir()
    last: deque[str] = deque(maxlen=TAIL)

    def on_line(line: str) -> None:
        last.append(line)
        progress(line)

    argv = installer_command(file, target)
    progress(f"installing {len(requirements.lines)} requirement(s) with {'pip' if '-m' in argv else 'uv'}")
    status = run(argv, work, on_line)
    if status != 0:
        raise BuildFailed("the requirements could not be installed; the installer said:\n  " + "\n  ".join(last))
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
    """Remove what installers leave of themselves, and own the rest."""
    for lock in (target / ".lock", target / ".gitignore", target / "CACHEDIR.TAG"):
        lock.unlink(missing_ok=True)
    for folder in [path for path in target.rglob("__pycache__") if not path.is_symlink()]:
        shutil.rmtree(folder)
    if os.geteuid() == 0:
        for path in (target, *target.rglob("*")):
            os.chown(path, 0, 0, follow_symlinks=False)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
