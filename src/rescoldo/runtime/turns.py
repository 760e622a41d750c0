"""At most so many async handlers at once in an instance.

The edge sends no more requests than that, but it counts a request as over when its client has left, while the handler
runs on.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

Begin = Callable[[], bool]


class Turns:
    """`limit` turns, given in the order in which they were asked for."""

    __slots__ = ("_free", "_waiting")

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._waiting: OrderedDict[Begin, None] = OrderedDict()

    def take(self, begin: Begin) -> None:
        """Call `begin` as soon as there is a turn, perhaps at once. It returns whether it has begun; then it must give
        its turn back once."""
        if not self._free:
            self._waiting[begin] = None
        elif begin():
            self._free -= 1

    def withdraw(self, begin: Begin) -> None:
        """`begin` waits no longer, if it did."""
        self._waiting.pop(begin, None)

    def give_back(self, over: object = None) -> None:
        """`over`, a task as a rule, had a turn, which goes to the next that begins."""
        while self._waiting:
            begin, _ = self._waiting.popitem(last=False)
            if begin():
                return
        self._free += 1
