"""Runs a platform for tests as a user other than root."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.live import SOURCE, Live

# An unused uid, different for each process of tests: tests count the user's processes and remove the user's
# folders.
UID = 100_000 + os.getpid()
DEVELOPMENT = (
    "mypy*",
    "*__mypyc*",
    "ruff*",
    "pip*",
    "setuptools*",
    "hypothesis*",
    "pytest*",
    "_pytest*",
    "__pycache__",
)


def interpreter() -> str | None:
    """Return a Python of this version that other users may execute."""
    own = Path(sys.executable).resolve()
    if all(folder.stat().st_mode & 0o001 for folder in (own, *own.parents)):
        return str(own)
    return shutil.which(f"python{sys.version_info[0]}.{sys.version_info[1]}", path="/usr/local/bin:/usr/bin")


@contextmanager
def readable_library() -> Iterator[Path]:
    """Copy the installed packages and this source to where every user may read them; yield the folder."""
    folder = Path(tempfile.mkdtemp(prefix="rl-lib-", dir="/tmp"))
    try:
        shutil.copytree(
            sysconfig.get_path("platlib"),
            folder,
            dirs_exist_ok=True,
            ignore=shutil.ignore_patterns(*DEVELOPMENT, "*rescoldo*"),
        )
        shutil.copytree(SOURCE, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        folder.chmod(0o755)
        yield folder
    finally:
        shutil.rmtree(folder)
        shutil.rmtree(f"/dev/shm/rescoldo-{UID}", ignore_errors=True)


class UnprivilegedLive(Live):
    """A platform of UID; the test itself runs as root."""

    def __init__(self, library: Path, python: str, **settings: Any) -> None:
        super().__init__(**settings)
        self._library = library
        self.python = python
        for folder in (self.folder, Path(self.settings.run)):
            os.chown(folder, UID, UID)

    def command(self, request: Path) -> list[str]:
        request.chmod(0o644)
        identity = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups"]
        return [*identity, self.python, "-m", "rescoldo.supervisor.main", str(request)]

    def environment(self) -> dict[str, str]:
        ours = {name: value for name, value in os.environ.items() if name.startswith("RESCOLDO_")}
        return {"PATH": os.environ["PATH"], "HOME": str(self.folder), "PYTHONPATH": str(self._library), **ours}
