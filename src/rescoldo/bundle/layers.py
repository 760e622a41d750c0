"""Where layers live: what requirements.txt files ask for, once for each content, shared by the bundles that name it.

A layer is for the functions whose bundles name it, and for no other: it has a group of its own, which the instances of
those functions have besides the group of their bundle (`finish` in isolation/sandbox.py).
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from rescoldo.bundle.archives import ArchiveStorage, disk_error, own
from rescoldo.bundle.unpack import check_layer
from rescoldo.isolation.identity import LAYER_GIDS
from rescoldo.model.errors import StoreError

LAYERS = "layers"  # folder beside the bundles


class LayerStorage(ArchiveStorage):
    """Layers; the time of each folder is the last at which somebody asked for it."""

    kind = "layer"
    remedy = "send it to POST /system/layers"

    def digests(self) -> list[str]:
        # somebody may have removed the folder under a running platform; the next layer makes it again
        return super().digests() if self._root.is_dir() else []

    def touch(self, digest: str) -> bool:
        """Whether a layer is here; then it stays for a while, also before a bundle names it."""
        if not self.has(digest):
            return False
        try:
            os.utime(self._root / digest)
        except FileNotFoundError:
            return False
        return True

    # -- everything below runs in a thread

    def remove_older(self, digest: str, older: float) -> None:
        """Remove a layer unless somebody asked for it since `older` (Unix seconds). Raises StoreError."""
        folder = self._root / digest
        try:
            if folder.stat().st_mtime >= older:
                return
        except FileNotFoundError:
            return
        self._remove(folder)

    def _check(self, folder: Path) -> None:
        check_layer(folder)

    def _complete(self, folder: Path) -> None:
        if self._own_gids:
            own(folder, self._free_gid())
        now = time.time()
        os.utime(folder, (now, now))

    def _free_gid(self) -> int:
        """A group that no layer has, the next after all of them while there are any: a process that outlives its
        layer must not read another."""
        try:
            taken = {(self._root / digest).stat().st_gid for digest in self.digests()}
        except OSError as error:
            raise disk_error(self._root, error) from error
        after = max(taken, default=LAYER_GIDS.start - 1) + 1
        if after in LAYER_GIDS:
            return after
        for gid in LAYER_GIDS:
            if gid not in taken:
                return gid
        raise StoreError(f"there are {len(taken)} layers, and no group is left for another")
