"""Has the kernel free memory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_DROP = Path("/proc/sys/vm/drop_caches")
can_forget = pytest.mark.skipif(not os.access(_DROP, os.W_OK), reason="needs the right to have the kernel free memory")


def forget_names() -> None:
    """Have the kernel forget the names of files that nobody uses, as it does when memory is short."""
    for _ in range(3):  # it spares recently used ones at first
        _DROP.write_text("2")
