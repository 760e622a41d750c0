"""Limits the async handlers that run at once in an instance.

The edge enforces the same limit on requests, but it counts a request as over when its client leaves, while the handler
runs on.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

Begin = Callable[[], bool]


class Turns:
    """Gives `limit` turns, first come first served."""

    __slots__ = ("_free", "_waiting")

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._waiting: OrderedDict[Begin, None] = OrderedDict()

    def take(self, begin: Begin) -> None:
        """Call `begin` as soon as a turn is free, perhaps at once. `begin` returns whether it uses the turn; if so, it
        must give the turn back once."""
        if not self._free:
            self._waiting[begin] = None
        elif begin():
            self._free -= 1

    def withdraw(self, begin: Begin) -> None:
        """Remove `begin` from the waiting ones, if it is there."""
        self._waiting.pop(begin, None)

    def give_back(self) -> None:
        """Pass a used turn to the next that begins."""
        while self._waiting:
            begin, _ = self._waiting.popitem(last=False)
            if begin():
                return
        self._free += 1
