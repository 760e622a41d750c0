"""manifest.json: what a bundle is and where it can run."""

from __future__ import annotations

import json
import platform
import sys
from dataclasses import asdict, dataclass

from rescoldo.model.program import PROCESS

SCHEMA = 1
KIND = "python"
HANDLER = "function.handler"


@dataclass(frozen=True, slots=True)
class Manifest:
    """The first file of every bundle. `schema` counts incompatible changes of the bundle's layout."""

    lang: str  # the template's name
    style: str  # "http", "classic" or "process"
    python: str  # major.minor: compiled modules fit no other; empty: it holds a program
    arch: str  # platform.machine()
    schema: int = SCHEMA
    kind: str = KIND
    handler: str = HANDLER  # module that holds `handle`; empty: it holds a program

    def to_text(self) -> str:
        """The JSON text: the same for the same manifest, byte for byte."""
        return json.dumps(asdict(self), indent=2, sort_keys=True) + "\n"


def python_here() -> str:
    """major.minor of the running Python."""
    return f"{sys.version_info[0]}.{sys.version_info[1]}"


def manifest_here(lang: str, style: str) -> Manifest:
    """The manifest of what is built by this Python on this machine."""
    if style == PROCESS:
        return Manifest(lang=lang, style=style, python="", arch=platform.machine(), kind=PROCESS, handler="")
    return Manifest(lang=lang, style=style, python=python_here(), arch=platform.machine())
