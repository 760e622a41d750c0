"""Decides which of the waiting starts gets the next turn.

Turns go in alternation to the newest start and to the oldest. Among the newest, a function's first waiting start goes
before any function's second, so that one function which wants 50 instances does not keep others waiting.

First come, first served would let a call that comes while 200 others wait for their wakes wait for all of them: 600 ms
at 3 ms a turn. Newest first would let a start wait for ever on a machine that is asked for more than it can do. In
alternation:

* The first waiting start of a function, if it comes last of all, gets one of the next two turns, here within 6 ms,
  unless others come after it in that time.
* A start with n others ahead of it gets one of the next 2n + 2 turns, twice as many as first come, first served,
  however many come after it. With 200 ahead of it that is 1.2 s at most.
* A burst ends no later, as no turn is lost. Its middle waits longest instead of its end.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Generic, TypeVar

T = TypeVar("T")


class Turns(Generic[T]):
    """The starts that wait for a turn."""

    def __init__(self) -> None:
        # by number, the oldest first: a function's first waiting start, and its others
        self._first: OrderedDict[int, tuple[str, T]] = OrderedDict()
        self._more: OrderedDict[int, tuple[str, T]] = OrderedDict()
        self._waiting: Counter[str] = Counter()  # by function
        self._number = 0
        self._newest_is_next = True

    def __len__(self) -> int:
        return len(self._first) + len(self._more)

    def add(self, function: str, start: T) -> None:
        """Add a start of a function, which comes after all others."""
        self._number += 1
        (self._more if self._waiting[function] else self._first)[self._number] = function, start
        self._waiting[function] += 1

    def take(self) -> T:
        """Remove and return the start whose turn is next. Raises KeyError if none waits."""
        if self._newest_is_next:
            _, (function, start) = (self._first or self._more).popitem()
        else:
            _, (function, start) = self._with_oldest().popitem(last=False)
        self._newest_is_next = not self._newest_is_next
        self._waiting[function] -= 1
        if not self._waiting[function]:
            del self._waiting[function]
        return start

    def _with_oldest(self) -> OrderedDict[int, tuple[str, T]]:
        if not self._first or not self._more:
            return self._first or self._more
        return self._first if next(iter(self._first)) < next(iter(self._more)) else self._more
