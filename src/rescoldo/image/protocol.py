"""The plug-point to registries of images, as the OCI distribution specification has them, version 1.1
(https://github.com/opencontainers/distribution-spec)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from rescoldo.image.blobs import Blob
from rescoldo.model.errors import InvalidInput, NotFound, RescoldoError

Sent = Callable[[int], None]  # is called with each number of bytes sent or received


class RegistryFailed(RescoldoError):
    """The registry cannot be reached, or failed."""


class RegistryRefused(InvalidInput):
    """The registry refuses this."""


class NotInRegistry(NotFound):
    """The registry does not have this."""


class Registry(Protocol):
    """A registry: repositories of blobs and of manifests that name them.

    Every method raises RegistryFailed and RegistryRefused, which name the registry and a remedy.
    """

    def manifest(self, repository: str, version: str) -> Blob:
        """Return the manifest with this tag or digest. Raises NotInRegistry."""
        ...

    def read(self, repository: str, digest: str) -> AbstractContextManager[Iterator[bytes]]:
        """Return the content of a blob, in pieces, which the caller checks. Raises NotInRegistry."""
        ...

    def has(self, repository: str, digest: str) -> bool:
        """Return whether the repository has this blob."""
        ...

    def mount(self, repository: str, digest: str, origin: str) -> bool:
        """Give the repository a blob that the repository `origin` has, without sending it; return whether it was."""
        ...

    def put(self, repository: str, blob: Blob, sent: Sent) -> None:
        """Store a blob. Raises RegistryRefused if its content is not that of its digest."""
        ...

    def put_manifest(self, repository: str, tag: str, manifest: Blob) -> None:
        """Store a manifest under its digest and this tag. Raises RegistryRefused if a blob is missing."""
        ...
