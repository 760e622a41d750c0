"""Proves that attacks work without protection: the same code as root, on a victim without a sandbox. An attack that
fails here as well would prove nothing."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hostile.function import handler  # noqa: F401 - its attacks register
from hostile.function.kit import ATTACKS, MARKER
from hostile.world import HERE, VICTIM, World

PROVEN = [made.name for made in ATTACKS.values() if made.proven]
_PERFORM = "import json, sys; from hostile.function import handler; from hostile.function.kit import perform; " \
    "print(json.dumps(perform(sys.argv[1], json.load(sys.stdin))))"  # fmt: skip
_LIBC = ctypes.CDLL(None)
_REMOVE = 0  # IPC_RMID


class Unprotected:
    """A plain process that attacks a plain victim."""

    def __init__(self, target: dict[str, Any], folder: Path) -> None:
        self._target = target
        self._folder = folder

    def perform(self, name: str) -> dict[str, dict[str, str]]:
        """Make an attack and return its report."""
        done = subprocess.run(
            [sys.executable, "-c", _PERFORM, name],
            input=json.dumps(self._target), capture_output=True, text=True, timeout=60, check=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(self._folder)},
        )  # fmt: skip
        return json.loads(done.stdout)


@contextmanager
def unprotected(world: World) -> Iterator[Unprotected]:
    """Run a victim as root without a sandbox, beside the platform of `world`."""
    with tempfile.TemporaryDirectory(prefix="hostile-") as name:
        folder = Path(name)
        (folder / "function").mkdir()
        (folder / "function" / "handler.py").write_text(f"# {MARKER}")
        (folder / "secret").write_text(MARKER)
        environment = {**os.environ, "TMPDIR": name, "VICTIMS_PORT": "27711"}
        process = subprocess.Popen(
            [sys.executable, str(HERE / "victim.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            cwd=folder,
        )
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        try:
            yield Unprotected(_target(world, told, process.pid, folder), folder)
        finally:
            process.communicate()
            _clear(told)


def _target(world: World, told: dict[str, Any], pid: int, folder: Path) -> dict[str, Any]:
    target = world.target()
    file = f"{MARKER}-{told['uid']}"
    return {
        **target,
        "level": "none",
        "signal": 0,
        "pids": {**target["pids"], VICTIM: pid},
        "addresses": {VICTIM: told["address"]},
        "bundles": str(folder.parent),
        "victim": {
            **target["victim"],
            **told,
            "uid": os.getuid() + 1,
            "code": str(folder),
            "secrets": [str(folder / "secret")],
            "scratch": [f"/tmp/{file}"],
            "address": "127.0.0.1",
        },
    }


def _clear(told: dict[str, Any]) -> None:
    """Remove what outlives a process without namespaces."""
    key = told["sysv_key"]
    _LIBC.shmctl(_LIBC.shmget(key, 0, 0), _REMOVE, None)
    _LIBC.msgctl(_LIBC.msgget(key, 0), _REMOVE, None)
    _LIBC.semctl(_LIBC.semget(key, 0, 0), 0, _REMOVE)
    _LIBC.mq_unlink(f"/{told['queue']}".encode())
    for path in (*(f"{f}/{MARKER}-{told['uid']}" for f in ("/tmp", "/var/tmp", "/dev/shm")), f"/dev/shm/{told['shm']}"):
        with suppress(OSError):
            os.unlink(path)
