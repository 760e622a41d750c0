"""Makes changes on disk survive a power cut.

All layers may use this module.
"""

from __future__ import annotations

import os
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Return when the folder's entries are on disk: files that were made in it, renamed or removed. Their content needs
    an fsync of its own, before. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
