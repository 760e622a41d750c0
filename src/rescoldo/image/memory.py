"""A registry in memory, for tests."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from rescoldo.image.blobs import Blob, digest_of
from rescoldo.image.protocol import NotInRegistry, RegistryRefused, Sent


class MemoryRegistry:
    """Implements Registry. `stored` counts the blobs that were sent."""

    def __init__(self) -> None:
        self._blobs: defaultdict[str, dict[str, bytes]] = defaultdict(dict)
        self._manifests: defaultdict[str, dict[str, Blob]] = defaultdict(dict)
        self.stored = 0

    def manifest(self, repository: str, version: str) -> Blob:
        if version not in self._manifests[repository]:
            raise NotInRegistry(f"{repository}:{version} is not in the registry")
        return self._manifests[repository][version]

    @contextmanager
    def read(self, repository: str, digest: str) -> Iterator[Iterator[bytes]]:
        if not self.has(repository, digest):
            raise NotInRegistry(f"{repository}@{digest} is not in the registry")
        yield iter([self._blobs[repository][digest]])

    def has(self, repository: str, digest: str) -> bool:
        return digest in self._blobs[repository]

    def mount(self, repository: str, digest: str, origin: str) -> bool:
        if not self.has(origin, digest):
            return False
        self._blobs[repository][digest] = self._blobs[origin][digest]
        return True

    def put(self, repository: str, blob: Blob, sent: Sent) -> None:
        data = b"".join(blob.read())
        sent(len(data))
        if digest_of(data) != blob.digest:
            raise RegistryRefused(f"the content is not that of {blob.digest}")
        self._blobs[repository][blob.digest] = data
        self.stored += 1

    def put_manifest(self, repository: str, tag: str, manifest: Blob) -> None:
        data = b"".join(manifest.read())
        named = json.loads(data)
        for blob in (named["config"], *named["layers"]):
            if not self.has(repository, blob["digest"]):
                raise RegistryRefused(f"the manifest names {blob['digest']}, which is not in {repository}")
        for version in (tag, manifest.digest):
            self._manifests[repository][version] = manifest
