"""Chooses uids for instances: an unused one, and a recently used one as late as possible."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence

from rescoldo.model.errors import Busy


class Uids:
    """Hands out the uids of `pool` in turn, so that leftovers of a dead instance (a System V segment, say) do not
    soon belong to another function.

    Other platforms on the same machine draw from the same pool. `key` gives each platform its own place to begin,
    and `take` skips a uid whose processes `in_use` reports.
    """

    def __init__(self, pool: Sequence[int], key: str = "", in_use: Callable[[int], bool] = lambda _: False) -> None:
        self._pool = pool
        self._in_use = in_use
        self._taken: set[int] = set()
        self._start = zlib.crc32(key.encode()) % len(pool)
        self._handed = 0  # uids gone past, counted from `_start`

    def adopt(self, uid: int) -> None:
        """Mark `uid` as taken, and continue after it."""
        self._taken.add(uid)
        if uid in self._pool:
            distance = (self._pool.index(uid) - self._start) % len(self._pool)
            self._handed = max(self._handed, distance + 1)

    def take(self) -> int:
        """Take an unused uid; raises Busy."""
        for _ in range(len(self._pool)):
            uid = self._pool[(self._start + self._handed) % len(self._pool)]
            self._handed += 1
            if uid not in self._taken and not self._in_use(uid):
                self._taken.add(uid)
                return uid
        raise Busy("all user ids for instances are in use")

    def give_back(self, uid: int) -> None:
        """Return `uid` to the pool; no process of it is left."""
        self._taken.discard(uid)
