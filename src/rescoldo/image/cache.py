"""Keeps layers of bases, so that each is pulled once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from rescoldo.bundle.eviction import evict

ROOM = 2 * 2**30  # bytes; beyond them, the least recently used layers go. A base has about 50 MB
IN_USE_SECONDS = 3600.0  # a layer used within this time always stays: an image may be made of it


def default_cache() -> Path:
    """Return rescoldo/images below $XDG_CACHE_HOME or ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "rescoldo" / "images"


class LayerCache:
    """Layers in a folder, by digest. Several processes may use it at once: a layer is there whole, or not at all."""

    def __init__(self, folder: Path) -> None:
        """`folder` is made if it is missing. Raises OSError."""
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def find(self, digest: str) -> Path | None:
        """Return the layer's file, which counts as used now; None if it is not here."""
        path = self._path(digest)
        try:
            os.utime(path)
        except FileNotFoundError:
            return None
        return path

    @contextmanager
    def adding(self, digest: str) -> Iterator[BinaryIO]:
        """Add a layer, which the caller writes, and checks before it leaves: after an exception nothing is added."""
        partial = self._folder / f".{digest.replace(':', '-')}.{os.getpid()}"
        try:
            with partial.open("wb") as file:
                yield file
            partial.replace(self._path(digest))
        finally:
            partial.unlink(missing_ok=True)

    def trim(self, now: float) -> None:
        """Remove the least recently used layers until the others fit into ROOM; `now` is in Unix seconds."""
        sizes: dict[Path, int] = {}
        for path in self._folder.iterdir():
            with suppress(FileNotFoundError):  # another process removes it
                sizes[path] = path.stat().st_size

        def remove(path: Path) -> bool:
            path.unlink(missing_ok=True)
            return True

        evict(sizes, ROOM, now, spared=IN_USE_SECONDS, remove=remove)

    def _path(self, digest: str) -> Path:
        return self._folder / digest.replace(":", "-")
