"""What an image has beyond its base: rescoldo, the locked versions of what it needs, and everything compiled.

A pod's root file system is read-only, so nothing could keep what Python compiles at the first import. And files of a
layer have no times, by which Python tells that a compiled module is up to date. So modules are compiled here, and
marked as never to be checked (PEP 552): a start in a pod takes 1.84 s instead of 3.3. This includes the base's own
modules, since Docker's images of Python come without compiled ones.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import rescoldo
from rescoldo.bundle.bytecode import compile_source, compiled_name
from rescoldo.bundle.deps import find_uv
from rescoldo.image.bases import OPAQUE, WHITEOUT, BasePython
from rescoldo.image.layers import Entry, file_entry
from rescoldo.model.errors import BuildFailed

Progress = Callable[[str], None]

REQUIREMENTS = Path(__file__).with_name("requirements.txt")  # by scripts/lock, of pyproject.toml's extra kubernetes
USER = 10001
DATA = "data"  # the folder of a platform that no volume is given
_PACKAGE = Path(rescoldo.__file__).parent
_LINES = 15  # of a failed installer's output that a user sees
# an installer's notes about itself and this machine; scripts in bin/ name this machine's Python
_NOTES = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json"}
_LEFT_OUT = {"__pycache__", "bin", ".lock", ".gitignore", "CACHEDIR.TAG"}


def install(target: Path, progress: Progress) -> None:
    """Install what rescoldo needs into `target`, from wheels alone: so no code of a package runs here.

    Raises BuildFailed with the installer's last lines.
    """
    command = _installer(target)
    progress(f"installing rescoldo's packages with {'pip' if '-m' in command else 'uv'}")
    last: deque[str] = deque(maxlen=_LINES)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as running:
        assert running.stdout is not None
        last.extend(line.rstrip() for line in running.stdout)
    if running.returncode:
        told = "\n  ".join(last)
        raise BuildFailed(f"rescoldo's packages could not be installed; output of the installer:\n  {told}")


def software(installed: Path, python: BasePython) -> Iterator[Entry]:
    """Yield what an image has beyond its base, for `python`; `installed` is by `install`."""
    packages = {f"{python.packages}/{name}": path for name, path in _packages(installed)}
    for name, path in packages.items():
        yield file_entry(name, path)
    yield from _hidden(python, {name.removeprefix(f"{python.packages}/").partition("/")[0] for name in packages})
    sources = {name: path.read_bytes() for name, path in packages.items() if name.endswith(".py")}
    yield from _compiled({**python.modules, **sources})
    launcher = f"#!/{python.program}\nimport sys\nfrom rescoldo.cli.__main__ import main\nsys.exit(main())\n"
    yield Entry("usr/local/bin/rescoldo", launcher.encode(), mode=0o755)
    # group 0 is the group of any uid that OpenShift chooses
    yield Entry(DATA, is_folder=True, mode=0o775)
    yield Entry("tmp", is_folder=True, mode=0o1777)


def _installer(target: Path) -> list[str]:
    locked = ["--no-deps", "--require-hashes", "--only-binary", ":all:"]
    locked += ["--target", str(target), "-r", str(REQUIREMENTS)]
    if uv := find_uv():
        return [uv, "pip", "install", "--quiet", "--python", sys.executable, "--link-mode", "copy", *locked]
    quiet = ["--quiet", "--disable-pip-version-check", "--no-input", "--no-compile", "--no-warn-script-location"]
    return [sys.executable, "-m", "pip", "install", *quiet, *locked]


def _packages(installed: Path) -> Iterator[tuple[str, Path]]:
    """Yield the files of all packages, rescoldo's own as it runs here, each with its path from their folder."""
    yield from _files(installed, "")
    yield from _files(_PACKAGE, f"{_PACKAGE.name}/")
    yield from _metadata()


def _files(folder: Path, name: str) -> Iterator[tuple[str, Path]]:
    for parent, folders, files in os.walk(folder):
        inside = Path(parent).relative_to(folder).as_posix()
        folders[:] = sorted(set(folders) - _LEFT_OUT) if inside == "." else sorted(set(folders) - {"__pycache__"})
        for file in sorted(set(files) - _LEFT_OUT - (_NOTES if inside.endswith(".dist-info") else set())):
            yield f"{name}{file}" if inside == "." else f"{name}{inside}/{file}", Path(parent, file)


def _hidden(python: BasePython, ours: set[str]) -> Iterator[Entry]:
    """Yield marks that hide the base's packages of the same names, since two versions of one must not mix."""
    projects = {name.partition("-")[0].lower() for name in ours if name.endswith(".dist-info")}
    for name in python.installed:
        if name.endswith(".dist-info") and name not in ours and name.partition("-")[0].lower() in projects:
            yield Entry(f"{python.packages}/{WHITEOUT}{name}")
        elif name in ours and "." not in name:  # a folder
            yield Entry(f"{python.packages}/{name}/{OPAQUE}")


def _metadata() -> Iterator[tuple[str, Path]]:
    """Yield what says that rescoldo is installed, for tools that list packages."""
    try:
        files = distribution("rescoldo").files or []
    except PackageNotFoundError:  # run from its source
        return
    for file in files:
        if file.parent.name.endswith(".dist-info") and file.name in ("METADATA", "WHEEL", "entry_points.txt"):
            yield f"{file.parent.name}/{file.name}", Path(str(file.locate()))


def _compiled(sources: Mapping[str, bytes]) -> Iterator[Entry]:
    """Yield a compiled module for each that compiles: packages ship templates, and code for other Pythons."""
    with ProcessPoolExecutor() as processes:
        made = processes.map(_compile, sources.values(), (f"/{name}" for name in sources), chunksize=50)
        for name, compiled in zip(sources, made, strict=True):
            if compiled is not None:
                yield Entry(compiled_name(name), compiled)


def _compile(source: bytes, name: str) -> bytes | None:
    try:
        return compile_source(source, name)
    except (SyntaxError, ValueError, RecursionError):
        return None


def configuration(labels: Mapping[str, str]) -> dict[str, Any]:
    """Return what containers of the image run, in OCI's terms."""
    return {"User": f"{USER}:0", "WorkingDir": "/", "Entrypoint": ["rescoldo"], "Cmd": [], "Labels": dict(labels)}
