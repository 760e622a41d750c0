"""The controller's storage of uploaded bundles: the plug-point `Bundles`.

`BundleStorage` (storage.py) keeps them on its own disk; `MemoryBundles` (memory.py) is the shipped fake. Both pass
tests/contract/test_bundles.py. Methods raise StoreError if the disk fails or refuses.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Received:
    """An upload that arrived whole."""

    digest: str  # sha256 of its bytes, in hex
    size: int  # bytes
    place: str  # where its storage keeps it until it is unpacked; only the storage may read it


class Archives(Protocol):
    """The interface that bundles and layers share: receive an archive, unpack it and keep it."""

    async def receive(self, body: AsyncIterator[bytes], limit: int, digest: str | None) -> Received:
        """Receive an upload of at most `limit` bytes.

        Raises TooLarge; InvalidInput if the upload is empty or does not match `digest`. A failed or cancelled upload
        leaves nothing behind.
        """
        ...

    async def unpack(self, received: Received) -> None:
        """Unpack an upload and remove it; a stored archive of the same digest stays as it is.

        Raises InvalidInput (damaged, unsafe, not for this machine, without its layer) and TooLarge.
        """
        ...


class Layers(Archives, Protocol):
    """Archives of requirements, shared by the bundles that name them."""

    def touch(self, digest: str) -> bool:
        """Return whether a layer is stored here. If so, keep it for up to a day without a bundle."""
        ...


class Elsewhere(Protocol):
    """Where a platform finds bundles that were not uploaded to it: a cluster's worker asks control. Methods raise
    StoreError while it cannot be reached."""

    async def digest(self, image: str) -> str:
        """Return the digest of the bundle that an image name points to; empty for an unknown name."""
        ...

    async def need(self, digest: str) -> None:
        """Store a bundle and its layer here, unless they are. Raises StartFailed where they are nowhere."""
        ...


class Bundles(Archives, Protocol):
    """Unpacked bundles by digest."""

    @property
    def layers(self) -> Layers: ...

    def has(self, digest: str) -> bool:
        """Return whether a bundle of this digest is stored here."""
        ...

    def check(self, digest: str) -> None:
        """Raise NotFound, which names the remedy, unless a bundle of this digest is stored here."""
        ...

    def kind(self, digest: str) -> str:
        """Return the kind of the function in a bundle, from its manifest. Raises NotFound, InvalidInput."""
        ...

    def digests(self) -> list[str]:
        """Return the stored digests, sorted."""
        ...

    async def own(self, digest: str, number: int) -> None:
        """Let a group that no other bundle has read the bundle, if none may yet: the one with this number (`Bundle.gid`
        of the store) if it is free. Raises NotFound."""
        ...

    async def remove(self, digest: str) -> None:
        """Remove a bundle; an unknown digest is no error."""
        ...

    async def collect_layers(self, now: float) -> None:
        """Remove the layers that no bundle names and nobody requested lately; `now` is in Unix seconds."""
        ...
