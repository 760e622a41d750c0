"""Makes freed memory go back to the kernel, for processes that run for weeks.

By default glibc gives each thread a heap of its own. And once the first large block is freed, glibc keeps blocks of
that size, and twice as much free memory, from then on. Objects scatter, and empty pages stay: half a megabyte more
with each minute of many wakes and deployments, while the memory in use stays the same (docs/discussions.md).
"""

from __future__ import annotations

import ctypes

# malloc.h
_TRIM_THRESHOLD = -1
_MMAP_THRESHOLD = -3
_ARENA_MAX = -8
_INITIAL = 128 * 2**10  # bytes: glibc's initial value of both thresholds, before it raises them


def settle() -> None:
    """Give this process a single heap that returns freed memory. Call this before it has threads."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none, and does not need it
    if mallopt is not None:
        mallopt(_ARENA_MAX, 1)
        mallopt(_MMAP_THRESHOLD, _INITIAL)  # glibc does not raise a value that was set
        mallopt(_TRIM_THRESHOLD, _INITIAL)
