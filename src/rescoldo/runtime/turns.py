"""At most so many async handlers at once in an instance.

The edge sends no more requests than that, but it counts a request as over when its client has left, while the handler
runs on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable


class Turns:
    """`limit` turns, given in the order in which they were asked for."""

    __slots__ = ("_free", "_waiting")

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._waiting: deque[Callable[[], None]] = deque()

    def take(self, begin: Callable[[], None]) -> None:
        """Call `begin` as soon as there is a turn, perhaps at once; whoever has begun must give it back once."""
        if self._free:
            self._free -= 1
            begin()
        else:
            self._waiting.append(begin)

    def give_back(self) -> None:
        """One that had begun is over: its turn is the next one's."""
        if self._waiting:
            self._waiting.popleft()()
        else:
            self._free += 1
