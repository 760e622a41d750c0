"""Assembles an image: a base, and one layer with rescoldo upon it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rescoldo import __version__
from rescoldo.image.bases import Base, diff_ids, find_python
from rescoldo.image.blobs import CONFIG, MANIFEST, Blob, Image, Layer, encoded
from rescoldo.image.layers import write_layer
from rescoldo.image.machine import MACHINE, machine_base
from rescoldo.image.software import Progress, configuration, install, software
from rescoldo.model.errors import InvalidInput

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}  # uname's name → OCI's
_NO_TIME = "1970-01-01T00:00:00Z"
_LABEL = "org.opencontainers.image"

FindBase = Callable[[str, str], Base]  # (name, architecture) → an image of a registry


def architecture() -> str:
    """Return this machine's architecture in OCI's terms. Raises InvalidInput where no image can be assembled."""
    machine = os.uname()
    if machine.sysname != "Linux" or machine.machine not in ARCHITECTURES:
        raise InvalidInput(
            f"an image is assembled on Linux with x86-64 or arm64, and this is {machine.sysname} with "
            f"{machine.machine}: build it there, or from the Dockerfile"
        )
    return ARCHITECTURES[machine.machine]


def assemble(base: str, work: Path, find_base: FindBase, progress: Progress) -> Image:
    """Return the image of this rescoldo upon `base`: an image's name, or `machine`. Its layers are files in `work`.

    Raises InvalidInput, BuildFailed and what `find_base` raises.
    """
    here = architecture()
    installed = work / "packages"
    if base == MACHINE:
        install(installed, progress)
        progress("collecting this machine's Python")
        found = machine_base(installed, work)
    else:
        progress(f"pulling {base}")
        found = find_base(base, here)  # first, since a name may be wrong
        install(installed, progress)
    python = find_python(found)
    progress("compiling and packing")
    layer = write_layer(software(installed, python), work / "rescoldo.tar.gz")
    return put_together(found, layer, here)


def put_together(base: Base, layer: Layer, architecture: str) -> Image:
    """Return the image of `layer` upon `base`."""
    layers = (*base.layers, layer)
    labels = {f"{_LABEL}.title": "rescoldo", f"{_LABEL}.version": __version__, f"{_LABEL}.licenses": "Apache-2.0"}
    inner = {**base.config, **configuration({**(base.config.get("Labels") or {}), **labels})}
    config = Blob.of(
        encoded(
            {
                "created": _NO_TIME,  # a time would give each build another digest
                "architecture": architecture,
                "os": "linux",
                "config": inner,
                "rootfs": {"type": "layers", "diff_ids": diff_ids(layers)},
                "history": [*base.history, {"created": _NO_TIME, "created_by": f"rescoldo {__version__}"}],
            }
        ),
        CONFIG,
    )
    named = {f"{_LABEL}.base.name": base.name, f"{_LABEL}.base.digest": base.digest} if base.digest else {}
    manifest: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config.described(),
        "layers": [one.blob.described() for one in layers],
        "annotations": named,
    }
    return Image(Blob.of(encoded(manifest), MANIFEST), config, layers, architecture)
