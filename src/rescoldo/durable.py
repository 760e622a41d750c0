"""Changes on disk that survive a power cut, and that no reader sees half of.

All layers may use this module.
"""

from __future__ import annotations

import os
from pathlib import Path

PARTIAL = ".new"


def replace_text(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old text or the new one, never half of it; a power cut may undo it. A
    process that is killed meanwhile leaves a file whose name ends with PARTIAL. Raises OSError."""
    fresh = path.with_suffix(PARTIAL)
    fresh.write_text(text)
    fresh.replace(path)


def replace_private(path: Path, data: bytes) -> None:
    """Replace a file as `replace_text` does, with mode 0600 from the beginning, and through no link. Raises OSError."""
    fresh = path.with_name(path.name + PARTIAL)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "wb") as file:
        file.write(data)
    fresh.replace(path)


def sync_folder(folder: Path) -> None:
    """Return when the folder's entries are on disk: files that were made in it, renamed or removed. Their content needs
    an fsync of its own, before. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
