"""Where a controller keeps the bundles it was sent: the plug-point `Bundles`.

`BundleStorage` (storage.py) keeps them on its own disk; `MemoryBundles` (memory.py) is the shipped fake. Both pass
tests/contract/test_bundles.py. Methods raise StoreError when the disk does not let them.
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
    place: str  # where its storage has it meanwhile; for the storage alone


class Archives(Protocol):
    """What bundles and layers have in common: an archive comes in, one that is unpacked stays."""

    async def receive(self, body: AsyncIterator[bytes], limit: int, digest: str | None) -> Received:
        """Take an upload of at most `limit` bytes. Raises TooLarge; InvalidInput when it is empty or is not what
        `digest` says. Nothing is left when it raises or is cancelled."""
        ...

    async def unpack(self, received: Received) -> None:
        """Unpack an upload and remove it; one that is there already is kept. Raises InvalidInput (damaged, unsafe, not
        for this machine, without its layer) and TooLarge."""
        ...


class Layers(Archives, Protocol):
    """Archives of requirements, shared by the bundles that name them."""

    def touch(self, digest: str) -> bool:
        """Whether a layer is here; then it stays for a day, also before a bundle names it."""
        ...


class Bundles(Archives, Protocol):
    """Unpacked bundles by digest."""

    @property
    def layers(self) -> Layers: ...

    def has(self, digest: str) -> bool:
        """Whether a bundle of this digest is here."""
        ...

    def check(self, digest: str) -> None:
        """Raise NotFound, which says how to send it, unless a bundle of this digest is here."""
        ...

    def kind(self, digest: str) -> str:
        """The kind of function in it, as its manifest says. Raises NotFound, InvalidInput."""
        ...

    def digests(self) -> list[str]:
        """The digests that are here, sorted."""
        ...

    async def own(self, digest: str, number: int) -> None:
        """Let the group with this number (`Bundle.gid` of the store), and nobody else, read the bundle. Raises
        NotFound."""
        ...

    async def remove(self, digest: str) -> None:
        """Remove a bundle; an unknown one is no error."""
        ...

    async def collect_layers(self, now: float) -> None:
        """Remove layers that no bundle has and nobody asked for lately, as seen `now` (Unix seconds)."""
        ...
