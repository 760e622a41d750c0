"""Finds and installs the commands that measurements need and this project does not bring."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence

from paths import ROOT
from rows import Measurement, say

NEED = ROOT / "scripts" / "need"
GO = "/usr/local/go/bin"  # often missing on PATH


def provide(measurements: Sequence[Measurement]) -> dict[str, tuple[str, ...]]:
    """Install missing commands if permitted; otherwise print how to install them. Return the commands that each
    measurement still lacks, by its name, and print them before the first measurement."""
    wanted = missing(name for measurement in measurements for name in measurement.needs)
    if wanted:
        say(f"missing commands: {', '.join(wanted)}")
        subprocess.run([NEED, *wanted], stdout=sys.stderr, check=False)
    lacking = {measurement.name: missing(measurement.needs) for measurement in measurements}
    for name, commands in lacking.items():
        if commands:
            say(f"{name} will not be measured: {', '.join(commands)} is missing")
    return lacking


def missing(commands: Iterable[str]) -> tuple[str, ...]:
    """Return the missing commands, each once."""
    return tuple(name for name in dict.fromkeys(commands) if not (shutil.which(name) or shutil.which(name, path=GO)))
