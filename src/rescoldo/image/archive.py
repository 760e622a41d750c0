"""Writes an image as one file that `docker load`, `ctr images import`, `podman load` and `kind load` take.

It is an OCI image layout (https://github.com/opencontainers/image-spec/blob/main/image-layout.md), with a manifest.json
beside it for readers that know Docker's archives alone.
"""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

from rescoldo.image.blobs import INDEX, Blob, Image, encoded


def write_image(image: Image, name: str, path: Path) -> None:
    """Write `image` under `name` (docker.io/library/rescoldo:1) to `path`, whole or not at all. Raises OSError."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with tarfile.open(partial, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for member, data in _texts(image, name).items():
                _add(tar, member, Blob.of(data, ""))
            for blob in sorted({blob.digest: blob for blob in (*image.blobs, image.manifest)}.values(), key=_member):
                _add(tar, _member(blob), blob)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _texts(image: Image, name: str) -> dict[str, bytes]:
    entry = {
        **image.manifest.described(),
        "platform": {"architecture": image.architecture, "os": "linux"},
        # containerd reads the first, the specification names the second
        "annotations": {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name},
    }
    docker = {
        "Config": _member(image.config),
        "RepoTags": [name],
        "Layers": [_member(layer.blob) for layer in image.layers],
    }
    return {
        "oci-layout": encoded({"imageLayoutVersion": "1.0.0"}),
        "index.json": encoded({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}),
        "manifest.json": encoded([docker]),
    }


def _member(blob: Blob) -> str:
    return f"blobs/{blob.digest.replace(':', '/')}"


def _add(tar: tarfile.TarFile, name: str, blob: Blob) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = blob.size, 0o644
    with blob.open() as file:
        tar.addfile(member, file)
