"""Helm, compiled once from the Go module proxy into a cache folder."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

VERSION = "v3.16.4"
KUBERNETES = "1.30.0"  # as Helm alone supposes a cluster of its own libraries' version
BUILD_SECONDS = 600
_cache = os.environ.get("RESCOLDO_CACHE")
FOLDER = Path(_cache, "helm") if _cache else Path.home() / ".cache/rescoldo-helm"


def helm() -> Path | None:
    """Return the program; None where it is not there and cannot be compiled."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    program, go = FOLDER / "helm", shutil.which("go") or "/usr/local/go/bin/go"
    with (FOLDER / "lock").open("w") as lock:  # tests run in several processes
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists() and Path(go).exists():
            subprocess.run(
                [go, "install", f"helm.sh/helm/v3/cmd/helm@{VERSION}"],
                env={**os.environ, "GOBIN": str(FOLDER), "GOFLAGS": "-mod=mod -buildvcs=false"},
                cwd=FOLDER,
                capture_output=True,
                timeout=BUILD_SECONDS,
                check=False,
            )
    return program if program.exists() else None


def run(program: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False, timeout=200)
