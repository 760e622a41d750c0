"""manifest.json: the kind of a bundle, and the machines it can run on."""

from __future__ import annotations

import json
import platform
import sys
from dataclasses import asdict, dataclass

from rescoldo.kinds.registry import kind_of_style

SCHEMA = 1
LAYERED = 2  # schema of a bundle whose requirements are in a layer
LAYER = "layer"  # kind of a layer
DEPENDENCIES = "deps"  # folder of the installed requirements, in a layer or a bundle


@dataclass(frozen=True, slots=True)
class Manifest:
    """The first file of every bundle. `schema` counts incompatible changes of the bundle's layout."""

    lang: str  # the template's name
    style: str  # one of the kind's
    python: str  # major.minor, because compiled modules fit no other; empty: the bundle and its layer have none
    arch: str  # platform.machine()
    schema: int
    kind: str
    handler: str  # module of the handler; empty: the kind has none
    layer: str = ""  # digest of the layer with its requirements; empty: it has none

    def to_text(self) -> str:
        """Return the JSON text: equal manifests give equal bytes."""
        fields = {name: value for name, value in asdict(self).items() if name != "layer" or value}
        return json.dumps(fields, indent=2, sort_keys=True) + "\n"


def python_here() -> str:
    """Return major.minor of the running Python."""
    return f"{sys.version_info[0]}.{sys.version_info[1]}"


def manifest_here(lang: str, style: str, layer: str = "") -> Manifest:
    """Return the manifest of a bundle built by this Python on this machine; `layer` is the digest of its layer."""
    kind = kind_of_style(style)
    return Manifest(
        lang=lang,
        style=style,
        python=python_here() if kind.needs_python or layer else "",
        arch=platform.machine(),
        schema=LAYERED if layer else SCHEMA,
        kind=kind.name,
        handler=kind.handler,
        layer=layer,
    )


def layer_manifest() -> str:
    """Return the manifest text of a layer made by this Python on this machine."""
    about = {"schema": SCHEMA, "kind": LAYER, "python": python_here(), "arch": platform.machine()}
    return json.dumps(about, indent=2, sort_keys=True) + "\n"
