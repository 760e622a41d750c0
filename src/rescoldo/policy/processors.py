"""Decides, where no cgroup limits instances, which of them get the lowest priority for using up the processors."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TypeVar

BUSY = 0.9  # of all processors: above that somebody waits
KEPT = 0.5  # of all processors: what instances of the usual priority may use together when all are busy

K = TypeVar("K", bound=Hashable)


def greedy(used: Mapping[K, float], low: float, cpus: float) -> list[K]:
    """The instances that should get the lowest priority, largest first: so many that the others use at most KEPT of the
    processors. Nobody while less than BUSY of them are used.

    `used` has the processors that each instance of the usual priority used lately (1.0: one of them all the time), and
    `low` what all those of the lowest priority used. With 2 processors, a function that uses 1.9 gets it, and of three
    that use 0.66 each two do. One that uses 1.0 alone never does: it leaves a processor to the others.
    """
    total = sum(used.values())
    if total + low < BUSY * cpus:
        return []
    found = []
    for instance in sorted(used, key=used.__getitem__, reverse=True):
        if total <= KEPT * cpus:
            break
        found.append(instance)
        total -= used[instance]
    return found
