"""How a process that runs for weeks keeps its memory: what is freed goes back to the kernel.

By default each thread of a process with glibc has a heap of its own, and the first large block that is freed makes
glibc keep blocks of that size, and twice as much free memory, from then on. Objects come to lie far apart, and pages
that nothing is in stay: half a megabyte more with each minute of many wakes and deployments, while what is in use stays
the same (docs/discussions.md).
"""

from __future__ import annotations

import ctypes

# malloc.h
_TRIM_THRESHOLD = -1
_MMAP_THRESHOLD = -3
_ARENA_MAX = -8
_INITIAL = 128 * 2**10  # bytes: glibc's own value of both thresholds, until it raises them


def settle() -> None:
    """Let this process have one heap that gives back what is freed; to be called before it has threads."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none, and none of these habits
    if mallopt is not None:
        mallopt(_ARENA_MAX, 1)
        mallopt(_MMAP_THRESHOLD, _INITIAL)  # a value that is set is raised no more
        mallopt(_TRIM_THRESHOLD, _INITIAL)
