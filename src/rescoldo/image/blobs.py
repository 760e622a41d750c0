"""What an image is made of: blobs, each named by its digest.

Media types and the fields of manifests are those of the OCI image specification, version 1.1
(https://github.com/opencontainers/image-spec).
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

_OCI = "application/vnd.oci.image"
INDEX = f"{_OCI}.index.v1+json"
MANIFEST = f"{_OCI}.manifest.v1+json"
CONFIG = f"{_OCI}.config.v1+json"
PLAIN_LAYER = f"{_OCI}.layer.v1.tar"
GZIP_LAYER = f"{_OCI}.layer.v1.tar+gzip"
PIECE = 2**20  # bytes read at a time


@dataclass(frozen=True, slots=True)
class Blob:
    """A file of an image, at `content` on this machine or in memory."""

    content: Path | bytes
    digest: str  # sha256:…
    size: int  # bytes
    media_type: str

    @classmethod
    def of(cls, data: bytes, media_type: str) -> Blob:
        """Return the blob of `data`."""
        return cls(data, digest_of(data), len(data), media_type)

    def described(self) -> dict[str, Any]:
        """Return its descriptor, as manifests name it."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}

    def open(self) -> BinaryIO:
        """Open the content for reading. Raises OSError."""
        return io.BytesIO(self.content) if isinstance(self.content, bytes) else self.content.open("rb")

    def read(self) -> Iterator[bytes]:
        """Yield the content in pieces. Raises OSError."""
        with self.open() as file:
            while piece := file.read(PIECE):
                yield piece


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer: its archive, and the digest of the archive before compression."""

    blob: Blob
    diff_id: str  # sha256:…


@dataclass(frozen=True, slots=True)
class Image:
    """A whole image: its manifest names the digests of all else."""

    manifest: Blob
    config: Blob
    layers: tuple[Layer, ...]
    architecture: str  # amd64, arm64

    @property
    def blobs(self) -> tuple[Blob, ...]:
        """The blobs that the manifest names."""
        return (*(layer.blob for layer in self.layers), self.config)

    @property
    def size(self) -> int:
        """Bytes of all its blobs, compressed as they are sent."""
        return sum(blob.size for blob in (*self.blobs, self.manifest))


def digest_of(data: bytes) -> str:
    """Return the digest of `data`: sha256:…"""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def encoded(value: object) -> bytes:
    """Return `value` in JSON, in the same bytes each time."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
