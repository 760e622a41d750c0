"""Stores layers: the installed packages of a requirements.txt, shared by the bundles that name them.

Only the functions whose bundles name a layer may read it: a layer has its own group, which the instances of those
functions have besides the group of their bundle (`finish` in isolation/sandbox.py).
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable
from pathlib import Path

from rescoldo.bundle.archives import ArchiveStorage, own
from rescoldo.bundle.eviction import evict
from rescoldo.bundle.unpack import check_layer
from rescoldo.model.errors import StoreError
from rescoldo.model.ids import LAYER_GIDS

LAYERS = "layers"  # folder beside the bundles
UNUSED_SECONDS = 86400.0  # a layer that no bundle names stays this long after the last request for it
UNUSED_BYTES = 2 * 2**30  # on the disk for all such layers together; beyond it, the least recently requested go
COMING_SECONDS = 600.0  # such a layer always stays this long after a request: the bundle that names it follows


class LayerStorage(ArchiveStorage):
    """Stores layers; the mtime of a layer's folder is that of the last request for it."""

    what = "layer"
    remedy = "send it to POST /system/layers"

    def __init__(self, root: Path, uploads: Path, own_gids: bool, durable: bool = True) -> None:
        super().__init__(root, uploads, own_gids, durable)
        self._sizes: dict[Path, int] = {}  # bytes of unused layers; cached, because a layer never changes

    def digests(self) -> list[str]:
        # a person may have removed the folder under a running platform; the next layer makes it again
        return super().digests() if self._root.is_dir() else []

    def touch(self, digest: str) -> bool:
        """Return whether a layer is stored here. If so, keep it for up to a day without a bundle."""
        if not self.has(digest):
            return False
        try:
            os.utime(self._root / digest)
        except FileNotFoundError:
            return False
        return True

    # -- everything below runs in a thread

    def _prepare(self) -> None:
        """Besides, give new groups to layers of a platform that ran in another user namespace, with other groups
        (model/ids.py)."""
        super()._prepare()
        if self._own_gids:
            for folder in (self._root / digest for digest in self.digests()):
                if folder.stat().st_gid not in LAYER_GIDS:
                    own(folder, self._free_gid())

    def remove_unused(self, digests: Iterable[str], now: float) -> None:
        """Remove the layers of `digests`, which no bundle names, that nobody requested lately or that exceed
        UNUSED_BYTES together; `now` is in Unix seconds. Raises StoreError."""
        folders = [self._root / digest for digest in digests]
        self._sizes = {folder: self._sizes.get(folder) or _size(folder) for folder in folders}

        def remove(folder: Path) -> bool:
            self._remove(folder)
            return True

        evict(self._sizes, UNUSED_BYTES, now, spared=COMING_SECONDS, longest=UNUSED_SECONDS, remove=remove)

    def _check(self, folder: Path) -> None:
        check_layer(folder)

    def _complete(self, folder: Path) -> None:
        if self._own_gids:
            own(folder, self._free_gid())
        now = time.time()
        os.utime(folder, (now, now))

    def _free_gid(self) -> int:
        """Return a group that no layer has: the one after the highest while there are any.

        A process that outlives its layer must not read another; so a removed layer's group is reused as late as
        possible. Raises StoreError.
        """
        taken = self.gids()
        after = max(taken, default=LAYER_GIDS.start - 1) + 1
        if after in LAYER_GIDS:
            return after
        for gid in LAYER_GIDS:
            if gid not in taken:
                return gid
        raise StoreError(f"all {len(taken)} groups for layers are in use; remove functions with requirements")


def _size(folder: Path) -> int:
    """Return the bytes that a folder takes on the disk."""
    found = 0
    for parent, _, files in os.walk(folder):
        with contextlib.suppress(OSError):  # it is being removed
            found += sum(Path(parent, name).lstat().st_blocks * 512 for name in files)
    return found
