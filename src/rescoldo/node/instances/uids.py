"""Which uid an instance gets: one that nobody else has, and as late as possible one that somebody had."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence

from rescoldo.model.errors import Busy


class Uids:
    """Hands out the numbers of `pool` in turn, so that what a dead instance left behind (a System V
    segment, say) does not soon belong to another function.

    Another platform on the same machine draws from the same pool: `key` gives each a place of its own to
    begin at, and a uid for which `in_use` says that processes exist is left alone.
    """

    def __init__(self, pool: Sequence[int], key: str = "", in_use: Callable[[int], bool] = lambda _: False) -> None:
        self._pool = pool
        self._in_use = in_use
        self._taken: set[int] = set()
        self._start = zlib.crc32(key.encode()) % len(pool)
        self._handed = 0  # numbers gone past, counted from the start

    def adopt(self, uid: int) -> None:
        """`uid` is in use already; go on after it."""
        self._taken.add(uid)
        if uid in self._pool:
            distance = (self._pool.index(uid) - self._start) % len(self._pool)
            self._handed = max(self._handed, distance + 1)

    def take(self) -> int:
        """A uid that is not in use; raises Busy."""
        for _ in range(len(self._pool)):
            uid = self._pool[(self._start + self._handed) % len(self._pool)]
            self._handed += 1
            if uid not in self._taken and not self._in_use(uid):
                self._taken.add(uid)
                return uid
        raise Busy("all user ids for instances are in use")

    def give_back(self, uid: int) -> None:
        """No process of `uid` is left."""
        self._taken.discard(uid)
