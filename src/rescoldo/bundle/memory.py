"""`Bundles` that keep their data in memory alone, for tests and trials."""

from __future__ import annotations

import hashlib
import io
import tempfile
import time
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from typing import Any

from rescoldo.bundle.archives import check_digest
from rescoldo.bundle.layers import UNUSED_SECONDS
from rescoldo.bundle.protocol import Received
from rescoldo.bundle.storage import LAYER_NOT_HERE
from rescoldo.bundle.unpack import check_layer, check_manifest, read_manifest, unpack
from rescoldo.model.errors import InvalidInput, NotFound, TooLarge


class _MemoryArchives:
    """`Archives` that keep only the manifests. Uploads are unpacked in a temporary folder to be checked."""

    def __init__(self) -> None:
        self._uploads: dict[str, bytes] = {}  # by place
        self._places = count(1)
        self._manifests: dict[str, dict[str, Any]] = {}  # by digest

    async def receive(self, body: AsyncIterator[bytes], limit: int, digest: str | None) -> Received:
        if digest is not None:
            check_digest(digest)
        data = bytearray()
        async for chunk in body:
            data += chunk
            if len(data) > limit:
                raise TooLarge(f"the upload is larger than the {limit} bytes allowed")
        found = hashlib.sha256(data).hexdigest()
        if not data:
            raise InvalidInput("the upload is empty")
        if digest not in (None, found):
            raise InvalidInput(f"the upload has digest {found}, expected {digest}")
        place = str(next(self._places))
        self._uploads[place] = bytes(data)
        return Received(found, len(data), place)

    async def unpack(self, received: Received) -> None:
        data = self._uploads.pop(received.place)
        if received.digest not in self._manifests:
            with tempfile.TemporaryDirectory() as folder:
                unpack(io.BytesIO(data), Path(folder))
                self._check(Path(folder))
                self._manifests[received.digest] = read_manifest(Path(folder))

    def _check(self, folder: Path) -> None:
        """Raise InvalidInput unless the archive unpacked at `folder` may be kept."""
        raise NotImplementedError


class MemoryLayers(_MemoryArchives):
    """`Layers`; see `MemoryBundles`."""

    def __init__(self) -> None:
        super().__init__()
        self._asked_at: dict[str, float] = {}  # Unix seconds, by digest

    async def unpack(self, received: Received) -> None:
        await super().unpack(received)
        self.touch(received.digest)

    def touch(self, digest: str) -> bool:
        if digest not in self._manifests:
            return False
        self._asked_at[digest] = time.time()
        return True

    def remove_unused(self, named: set[str], now: float) -> None:
        """Remove the layers that no bundle `named` and nobody requested lately; `now` is in Unix seconds."""
        for digest in self._manifests.keys() - named:
            if now - self._asked_at[digest] > UNUSED_SECONDS:
                del self._manifests[digest]

    def _check(self, folder: Path) -> None:
        check_layer(folder)


class MemoryBundles(_MemoryArchives):
    """Keeps the same promises as `BundleStorage`, except those about the disk."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = MemoryLayers()
        self.owners: dict[str, int] = {}  # number of the group that may read a bundle, by digest

    def put(self, digest: str, kind: str = "python") -> None:
        """Store a bundle of that kind without an upload, replacing one of the same digest."""
        self._manifests[digest] = {"kind": kind}

    def has(self, digest: str) -> bool:
        return digest in self._manifests

    def check(self, digest: str) -> None:
        if not self.has(digest):
            raise NotFound(f"no bundle with digest {digest[:80]} is stored here; upload it with `rescoldo up`")

    def kind(self, digest: str) -> str:
        self.check(digest)
        return str(self._manifests[digest]["kind"])

    def digests(self) -> list[str]:
        return sorted(self._manifests)

    async def own(self, digest: str, number: int) -> None:
        self.check(digest)
        self.owners[digest] = number

    async def remove(self, digest: str) -> None:
        self._manifests.pop(digest, None)
        self.owners.pop(digest, None)

    async def collect_layers(self, now: float) -> None:
        self.layers.remove_unused({manifest.get("layer", "") for manifest in self._manifests.values()}, now)

    def _check(self, folder: Path) -> None:
        check_manifest(folder)
        layer = read_manifest(folder).get("layer", "")
        if layer and not (isinstance(layer, str) and self.layers.touch(layer)):
            raise InvalidInput(f"{LAYER_NOT_HERE}: {str(layer)[:80]}")
