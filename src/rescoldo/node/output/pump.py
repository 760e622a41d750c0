"""Whose text is read next: the node's event loop serves wakes first, however many functions print without end.

What can be read at once within SLICE seconds of a PAUSE is read as it comes. Beyond that a source waits for its turn:
one after another does a bounded piece of work, for SLICE seconds, then all wait for PAUSE. So reading takes at most
about a quarter of a processor; meanwhile the writers wait, or fill their pipes.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Protocol

SLICE = 0.002  # seconds of work at once
PAUSE = 0.005  # seconds between two slices


class Source(Protocol):
    """Something to be read."""

    def work(self) -> bool:
        """Do a bounded piece of work; return whether the next one should not wait until there is more to read."""
        ...

    def rest(self) -> None:
        """Wait until there is something to read."""
        ...

    def wait(self) -> None:
        """Wait for a turn: what can be read is of no interest before."""
        ...


class Pump:
    """One for all sources of an event loop."""

    def __init__(self) -> None:
        self._queue: deque[Source] = deque()
        self._due: asyncio.TimerHandle | None = None
        self._begun = 0.0  # of the present slice, on the monotonic clock
        self._spent = 0.0  # seconds of it

    def readable(self, source: Source) -> None:
        """`source` can be read: now, or when its turn has come."""
        begun = time.monotonic()
        if begun - self._begun > PAUSE:
            self._begun, self._spent = begun, 0.0
        if self._spent < SLICE:
            more = source.work()
            self._spent += time.monotonic() - begun
            if not more:
                return
        source.wait()
        self._queue.append(source)
        if self._due is None:
            self._due = asyncio.get_running_loop().call_later(PAUSE, self._turn)

    def forget(self, source: Source) -> None:
        """`source` is closed."""
        if source in self._queue:
            self._queue.remove(source)

    def _turn(self) -> None:
        self._due = None
        self._begun = time.monotonic()
        for _ in range(len(self._queue)):
            source = self._queue.popleft()
            if source.work():
                self._queue.append(source)
            else:
                source.rest()
            self._spent = time.monotonic() - self._begun
            if self._spent > SLICE:
                break
        if self._queue:
            self._due = asyncio.get_running_loop().call_later(PAUSE, self._turn)
