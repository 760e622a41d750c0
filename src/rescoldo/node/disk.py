"""Bundles and secrets of a node that shares its disk with the controller."""

from __future__ import annotations

import os
from pathlib import Path

from rescoldo.model.errors import StartFailed
from rescoldo.node.protocol import BundleHere


class BundlesOnDisk:
    """Implements `Bundles`: the controller has unpacked them at FOLDER/DIGEST. A find costs one stat(2)."""

    def __init__(self, folder: Path, *, own_gids: bool) -> None:
        """`own_gids`: each bundle belongs to a group of its own, as on a platform that runs as root."""
        self._folder = folder
        self._own_gids = own_gids

    async def find(self, digest: str) -> BundleHere:
        path = self._folder / digest
        try:
            found = path.stat()
        except OSError as error:
            raise StartFailed(
                f"its bundle {digest} is missing from {self._folder}: build and deploy it again with `rescoldo up`"
            ) from error
        return BundleHere(path, found.st_gid if self._own_gids else 0)


class SecretsOnDisk:
    """Implements `Secrets`: the controller has written them to FOLDER/NAMESPACE/NAME."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def open(self, namespace: str, name: str) -> int:
        try:
            return os.open(self._folder / namespace / name, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            remedy = f"; create it again with `rescoldo secret create {name}`"
            raise StartFailed(f"its secret {name!r} cannot be read: {error.strerror}{remedy}") from error
        except OSError as error:
            raise StartFailed(f"its secret {name!r} cannot be read: {error.strerror}") from error
