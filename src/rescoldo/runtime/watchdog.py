"""Notices that the event loop stands still: an async handler that blocks it can see no deadline, nor can any
other call in the instance.

A heartbeat on the loop puts off an alarm (SIGALRM, so a function cannot use it for itself). When the loop
stops, the alarm comes, in whatever Python code blocks it.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from types import FrameType

BEAT = 0.5  # seconds between heartbeats while calls are in flight
MARGIN = 1.0  # seconds beyond a call's own deadline, which answers better while the loop runs


class Watchdog:
    """Calls `bark`, which must end the process, when the loop stood still for `limit` + MARGIN seconds."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, limit: float, busy: Callable[[], bool], bark: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._patience = limit + MARGIN
        self._busy = busy
        self._bark = bark
        self._beating = False

    def watch(self) -> None:
        """Calls are in flight from now on, until `busy` says no."""
        if not self._beating:
            self._beating = True
            signal.signal(signal.SIGALRM, self._alarm)
            self._beat()

    def _beat(self) -> None:
        self._beating = self._busy()
        signal.setitimer(signal.ITIMER_REAL, self._patience if self._beating else 0.0)
        if self._beating:
            self._loop.call_later(BEAT, self._beat)

    def _alarm(self, number: int, frame: FrameType | None) -> None:
        self._bark()
