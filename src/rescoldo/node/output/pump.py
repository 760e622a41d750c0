"""Decides which output is read next, so that the event loop serves wakes first, however many functions print
without end.

The pump reads output as it comes, within SLICE seconds of each PAUSE. Beyond that a source waits for a turn: one
source after another does a bounded piece of work, for SLICE seconds together, then all wait for PAUSE. So reading
takes about a quarter of a processor at most, 2 ms of every 7 to 8; meanwhile the writers wait, or fill their pipes.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Protocol

SLICE = 0.002  # seconds of work at once
PAUSE = 0.005  # seconds between two slices


class Source(Protocol):
    """A readable thing, such as a FIFO."""

    def work(self) -> bool:
        """Do a bounded piece of work; return whether to go on without waiting for more to read."""
        ...

    def rest(self) -> None:
        """Register with the event loop: more to read calls `Pump.readable`."""
        ...

    def wait(self) -> None:
        """Unregister from the event loop until the pump gives the source a turn."""
        ...


class Pump:
    """Shares an event loop's time among all its sources."""

    def __init__(self) -> None:
        self._queue: deque[Source] = deque()
        self._due: asyncio.TimerHandle | None = None
        self._begun = 0.0  # start of the present slice, on the monotonic clock
        self._spent = 0.0  # seconds of work in it

    def readable(self, source: Source) -> None:
        """Let `source`, which can be read, work now, or queue it for a turn."""
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
        """Drop `source`, which is closed, from the queue."""
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
