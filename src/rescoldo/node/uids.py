"""Which uid an instance gets: one that nobody else has, and as late as possible one that somebody had."""

from __future__ import annotations

from collections.abc import Sequence

from rescoldo.model.errors import Busy


class Uids:
    """Hands out the numbers of `pool` in turn, so that what a dead instance left behind (a System V
    segment, say) does not soon belong to another function."""

    def __init__(self, pool: Sequence[int]) -> None:
        self._pool = pool
        self._taken: set[int] = set()
        self._next = 0

    def adopt(self, uid: int) -> None:
        """`uid` is in use already; go on after it."""
        self._taken.add(uid)
        if uid in self._pool:
            self._next = max(self._next, self._pool.index(uid) + 1)

    def take(self) -> int:
        """A uid that is not in use; raises Busy."""
        for _ in range(len(self._pool)):
            uid = self._pool[self._next % len(self._pool)]
            self._next += 1
            if uid not in self._taken:
                self._taken.add(uid)
                return uid
        raise Busy("every uid for instances is in use")

    def give_back(self, uid: int) -> None:
        """No process of `uid` is left."""
        self._taken.discard(uid)
