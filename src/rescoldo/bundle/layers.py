"""Where layers live: what requirements.txt files ask for, once for each content, shared by the bundles that name it.

A layer is for the functions whose bundles name it, and for no other: it has a group of its own, which the instances of
those functions have besides the group of their bundle (`finish` in isolation/sandbox.py).
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable
from pathlib import Path

from rescoldo.bundle.archives import ArchiveStorage, disk_error, own
from rescoldo.bundle.eviction import evict
from rescoldo.bundle.unpack import check_layer
from rescoldo.isolation.identity import LAYER_GIDS
from rescoldo.model.errors import StoreError

LAYERS = "layers"  # folder beside the bundles
UNUSED_SECONDS = 86400.0  # a layer that no bundle names stays for as long after somebody asked for it
UNUSED_BYTES = 2 * 2**30  # and all of these together on the disk; then the one asked for longest ago goes
COMING_SECONDS = 600.0  # but for those asked for just now: the bundle that names one follows it


class LayerStorage(ArchiveStorage):
    """Layers; the time of each folder is the last at which somebody asked for it."""

    what = "layer"
    remedy = "send it to POST /system/layers"

    def __init__(self, root: Path, uploads: Path, own_gids: bool) -> None:
        super().__init__(root, uploads, own_gids)
        self._sizes: dict[Path, int] = {}  # bytes of those that no bundle names: a layer never changes

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

    def remove_unused(self, digests: Iterable[str], now: float) -> None:
        """Of `digests`, which no bundle names, remove those that nobody asked for lately, and those that are too much
        together. Raises StoreError."""
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
        raise StoreError(f"all {len(taken)} groups for layers are in use; remove functions with requirements")


def _size(folder: Path) -> int:
    """Bytes that a folder takes on the disk."""
    found = 0
    for parent, _, files in os.walk(folder):
        with contextlib.suppress(OSError):  # somebody removes it
            found += sum(Path(parent, name).lstat().st_blocks * 512 for name in files)
    return found
