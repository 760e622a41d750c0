"""The commands that measurements need and this project does not bring."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence

from paths import ROOT
from rows import Measurement, say

NEED = ROOT / "scripts" / "need"
GO = "/usr/local/go/bin"  # not on everybody's PATH


def provide(measurements: Sequence[Measurement]) -> dict[str, tuple[str, ...]]:
    """Have what is missing installed where that may be; else say how to. Return what each measurement lacks then, by
    its name, and say so before anything is measured."""
    wanted = missing(name for measurement in measurements for name in measurement.needs)
    if wanted:
        say(f"needed and not here: {', '.join(wanted)}")
        subprocess.run([NEED, *wanted], stdout=sys.stderr, check=False)
    lacking = {measurement.name: missing(measurement.needs) for measurement in measurements}
    for name, commands in lacking.items():
        if commands:
            say(f"{name} will not be measured: {', '.join(commands)} is missing")
    return lacking


def missing(commands: Iterable[str]) -> tuple[str, ...]:
    """Those that are not here, each once."""
    return tuple(name for name in dict.fromkeys(commands) if not (shutil.which(name) or shutil.which(name, path=GO)))
