"""Stores bundles, and links each to its layer."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
from pathlib import Path
from typing import Any

from rescoldo.bundle.archives import ArchiveStorage, disk_error, own
from rescoldo.bundle.layers import LAYERS, LayerStorage
from rescoldo.bundle.manifest import DEPENDENCIES
from rescoldo.bundle.unpack import check_manifest, read_manifest
from rescoldo.durable import replace_text
from rescoldo.model.errors import InvalidInput, StartFailed, StoreError
from rescoldo.model.ids import BUNDLE_GIDS

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_BOOT_MARK = ".boot"  # no digest, so no bundle
LAYER_NOT_HERE = "its layer of requirements is not stored here"


class BundleStorage(ArchiveStorage):
    """Stores bundles, each with its own group.

    A bundle that names a layer gets a link to it in place of its requirements; the link keeps the layer alive.

    Without `durable` it is a cache of bundles that can be had again: a start after another boot of the machine finds
    it empty, as files that were not synced may have lost their content.
    """

    what = "bundle"
    remedy = "upload it with `rescoldo up`"

    def __init__(self, root: Path, uploads: Path, own_gids: bool, durable: bool = True) -> None:
        super().__init__(root, uploads, own_gids, durable)
        self.layers = LayerStorage(root / LAYERS, uploads, own_gids, durable)
        self._owning = threading.Lock()  # from the choice of a group until a bundle has it

    async def prepare(self) -> None:
        await super().prepare()
        await self.layers.prepare()

    def kind(self, digest: str) -> str:
        """Return the kind of the function in a bundle, from its manifest. Raises NotFound, InvalidInput."""
        return str(self._manifest(digest).get("kind"))

    def _manifest(self, digest: str) -> dict[str, Any]:
        return read_manifest(self.path(digest))

    async def own(self, digest: str, number: int) -> None:
        """Let one group of BUNDLE_GIDS read the bundle, if none may yet: the one with this number, or the next one
        that no other bundle here has. Without own_gids do nothing.

        Raises NotFound, StoreError.
        """
        folder = self.path(digest)
        if self._own_gids:
            await asyncio.to_thread(self._own, folder, number)

    def group(self, digest: str) -> int:
        """Return the group that may read the bundle; 0 without own_gids. Raises StartFailed if the bundle is gone."""
        try:
            found = (self._root / digest).stat()
        except OSError as error:
            raise StartFailed(
                f"its bundle {digest} is missing from {self._root}: build and deploy it again with `rescoldo up`"
            ) from error
        return found.st_gid if self._own_gids else 0

    def check(self, digest: str) -> None:
        """Raise NotFound unless a bundle of this digest is stored here."""
        self.path(digest)

    async def collect_layers(self, now: float) -> None:
        """Remove the layers that no bundle names and nobody requested lately; `now` is in Unix seconds.

        No bundle is unpacked meanwhile. Raises StoreError.
        """
        if self.layers.digests():
            await self._one_at_a_time(self._collect_layers, now)

    # -- everything below runs in a thread

    def _prepare(self) -> None:
        """Besides, give new groups to bundles of a platform that ran in another user namespace, with other groups
        (model/ids.py). A bundle that no group may read yet has root's."""
        if not self._durable:
            self._keep_this_boot()
        super()._prepare()
        if self._own_gids:
            for digest in self.digests():
                if self.group(digest) != 0:
                    self._own(self._root / digest, number=0)

    def _keep_this_boot(self) -> None:
        """Remove all that an earlier boot of the machine left. A crash that loses or damages the mark removes it,
        too."""
        mark, boot = self._root / _BOOT_MARK, _BOOT_ID.read_text()
        try:
            if mark.is_file() and mark.read_text(errors="replace") == boot:
                return
            self._make_folders()
            for left in self._root.iterdir():  # the folder itself stays, as the node watches it
                shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
            replace_text(mark, boot)  # before the first bundle
        except OSError as error:
            raise disk_error(self._root, error) from error

    def _own(self, folder: Path, number: int) -> None:
        with self._owning:
            if self.group(folder.name) not in BUNDLE_GIDS:
                own(folder, self._free_gid(number))

    def _free_gid(self, number: int) -> int:
        taken = self.gids()
        for gid in (BUNDLE_GIDS[(number + step) % len(BUNDLE_GIDS)] for step in range(len(BUNDLE_GIDS))):
            if gid not in taken:
                return gid
        raise StoreError(f"all {len(BUNDLE_GIDS)} groups for bundles are in use; remove functions")

    def _collect_layers(self, now: float) -> None:
        linked = {self._layer_of(digest) for digest in self.digests()}
        self.layers.remove_unused(set(self.layers.digests()) - linked, now)

    def _layer_of(self, digest: str) -> str:
        try:
            return (self._root / digest / DEPENDENCIES).readlink().parent.name
        except OSError:  # it has no requirements, or contains them
            return ""

    def _check(self, folder: Path) -> None:
        check_manifest(folder)

    def _complete(self, folder: Path) -> None:
        digest = read_manifest(folder).get("layer", "")
        if not digest:
            return
        if not isinstance(digest, str) or not self.layers.touch(digest):
            raise InvalidInput(f"{LAYER_NOT_HERE}: {str(digest)[:80]}; run `rescoldo up` again, which sends it first")
        place = folder / DEPENDENCIES
        if os.path.lexists(place):
            raise InvalidInput(f"the bundle names a layer and brings {DEPENDENCIES}/ too; run `rescoldo build` again")
        place.symlink_to(Path("..", LAYERS, digest, DEPENDENCIES))
