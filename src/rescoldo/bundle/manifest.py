"""manifest.json: what a bundle is and where it can run."""

from __future__ import annotations

import json
import platform
import sys
from dataclasses import asdict, dataclass

from rescoldo.model.program import PROCESS

SCHEMA = 1
LAYERED = 2  # schema of a bundle whose requirements are a layer of their own
KIND = "python"
LAYER = "layer"  # kind of a layer
DEPENDENCIES = "deps"  # folder of what requirements.txt asks for, in a layer or a bundle
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
    layer: str = ""  # digest of the layer that holds its requirements; empty: it has none

    def to_text(self) -> str:
        """The JSON text: the same for the same manifest, byte for byte."""
        fields = {name: value for name, value in asdict(self).items() if name != "layer" or value}
        return json.dumps(fields, indent=2, sort_keys=True) + "\n"


def python_here() -> str:
    """major.minor of the running Python."""
    return f"{sys.version_info[0]}.{sys.version_info[1]}"


def manifest_here(lang: str, style: str, layer: str = "") -> Manifest:
    """The manifest of what is built by this Python on this machine, with the digest of its `layer`."""
    about = {"lang": lang, "style": style, "arch": platform.machine(), "layer": layer}
    schema = LAYERED if layer else SCHEMA
    if style == PROCESS:
        return Manifest(**about, schema=schema, python=python_here() if layer else "", kind=PROCESS, handler="")
    return Manifest(**about, schema=schema, python=python_here())


def layer_manifest() -> str:
    """The text of the manifest of a layer that is made by this Python on this machine."""
    about = {"schema": SCHEMA, "kind": LAYER, "python": python_here(), "arch": platform.machine()}
    return json.dumps(about, indent=2, sort_keys=True) + "\n"
