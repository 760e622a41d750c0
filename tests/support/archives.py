"""Uploads: archives made by hand, member by member, and their bytes in chunks."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import AsyncIterator
from typing import Any

from rescoldo.bundle.manifest import layer_manifest, manifest_here

MANIFEST = manifest_here("python3-http", "http").to_text().encode()


class Tar:
    """Builds a tar.gz member by member; the manifest comes first by default."""

    def __init__(self, manifest: bytes | None = MANIFEST) -> None:
        self._bytes = io.BytesIO()
        self._tar = tarfile.open(fileobj=self._bytes, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115
        if manifest is not None:
            self.file("manifest.json", manifest)

    def file(self, name: str, data: bytes = b"x", **fields: Any) -> Tar:
        return self.member(name, tarfile.REGTYPE, data, **fields)

    def member(self, name: str, kind: bytes, data: bytes = b"", **fields: Any) -> Tar:
        member = tarfile.TarInfo(name)
        member.type, member.size = kind, len(data)
        for key, value in fields.items():
            setattr(member, key, value)
        self._tar.addfile(member, io.BytesIO(data))
        return self

    def link(self, name: str, to: str) -> Tar:
        return self.member(name, tarfile.SYMTYPE, linkname=to)

    def plain(self) -> bytes:
        self._tar.close()
        return self._bytes.getvalue()

    def gz(self) -> bytes:
        return gzip.compress(self.plain(), 1)


async def sent(data: bytes, size: int = 1000) -> AsyncIterator[bytes]:
    """Yield `data` in chunks of `size` bytes, as an upload arrives."""
    for start in range(0, len(data), size):
        yield data[start : start + size]


def bundle_archive(code: str = "", layer: str = "") -> bytes:
    """An upload of a handler with that code; `layer` is the digest of its layer."""
    manifest = manifest_here("python3-http", "http", layer).to_text().encode()
    return Tar(manifest).file("function/handler.py", code.encode()).gz()


def layer_archive() -> bytes:
    """An upload of a layer of requirements."""
    return Tar(layer_manifest().encode()).file("deps/needed.py", b"X = 1\n").gz()
