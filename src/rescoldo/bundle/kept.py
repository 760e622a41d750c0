"""Storages that hand archives on as they were uploaded: a cluster's control runs no function itself.

Each archive is unpacked once, so that it is checked as on every platform; then its manifest stays, with the archive
beside it. So the disk holds an archive once, and a layer's thousands of files never.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

from rescoldo.bundle.archives import ArchiveStorage, disk_error
from rescoldo.bundle.layers import LAYERS, LayerStorage
from rescoldo.bundle.storage import BundleStorage

ARCHIVE = "archive"  # the upload, in the folder of its digest
CHUNK = 2**18  # bytes read at once


class _Kept(ArchiveStorage):
    """Keeps the archive in place of its contents."""

    def _keep(self, upload: Path, folder: Path) -> None:
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name == ARCHIVE:  # a file of its own with that name
                path.unlink()
        os.link(upload, folder / ARCHIVE)  # uploads are on the same disk

    async def archive(self, digest: str) -> AsyncIterator[bytes]:
        """Iterate over the bytes of a stored archive. Raises NotFound before the first of them, and StoreError."""
        path = self.path(digest) / ARCHIVE
        try:
            with await asyncio.to_thread(path.open, "rb") as file:
                while chunk := await asyncio.to_thread(file.read, CHUNK):
                    yield chunk
        except OSError as error:
            raise disk_error(path, error) from error


class KeptLayers(_Kept, LayerStorage):
    """`LayerStorage` of archives."""


class KeptBundles(_Kept, BundleStorage):
    """`BundleStorage` of archives."""

    layers: KeptLayers

    def __init__(self, root: Path, uploads: Path) -> None:
        super().__init__(root, uploads, own_gids=False)
        self.layers = KeptLayers(root / LAYERS, uploads, own_gids=False)

    def layer(self, digest: str) -> str:
        """Return the digest of a bundle's layer; empty: it has none. Raises NotFound, InvalidInput."""
        return str(self._manifest(digest).get("layer", ""))
