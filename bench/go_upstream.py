"""Builds Go programs in a cache folder, and runs the upstream as a child."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from paths import BENCH
from rows import MeasurementFailed, say

SOURCE = BENCH / "upstream"


@dataclass(frozen=True, slots=True)
class Upstream:
    pid: int
    port: int  # on 127.0.0.1
    socket: Path


def build(source: Path = SOURCE, package: str = ".") -> Path:
    """Build the program of a folder, or a `package` of the folder's go.mod; rebuild it only after the folder's
    source has changed. Raises MeasurementFailed."""
    texts = [path.read_bytes() for pattern in ("*.go", "go.*") for path in sorted(source.glob(pattern))]
    key = hashlib.sha256(b"\0".join(texts)).hexdigest()[:16]
    cache = Path(os.environ.get("RESCOLDO_CACHE") or Path.home() / ".cache" / "rescoldo-ci")
    program = cache / f"bench-{source.name}-{key}"
    if program.exists():
        return program
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if go is None:
        raise MeasurementFailed("go was not found: run `apt-get install golang-go` as root")
    say(f"building {source} into {cache}")
    cache.mkdir(parents=True, exist_ok=True)
    fresh = program.with_suffix(f".{os.getpid()}")
    env = {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off"}
    done = subprocess.run([go, "build", "-o", str(fresh), package], cwd=source, env=env, capture_output=True, text=True)
    if done.returncode:
        raise MeasurementFailed(f"go build failed:\n{done.stderr}")
    return fresh.rename(program)


@contextmanager
def running(socket: Path) -> Iterator[Upstream]:
    """Run the upstream on a free TCP port and on `socket`."""
    process = subprocess.Popen([str(build()), str(socket)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise MeasurementFailed(f"the Go upstream ended with status {process.wait()}")
        yield Upstream(process.pid, int(line), socket)
    finally:
        process.kill()
        process.wait()
