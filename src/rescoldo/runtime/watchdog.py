"""Notices that the event loop stands still: then no call in the instance can see its deadline.

A heartbeat on the loop puts off two alarms. When the loop stops, they come:
- where handlers run on the loop, SIGALRM, in whatever Python code blocks it: all calls get their 504 and the process
  ends;
- for all handlers, SIGVTALRM, which no Python code has to serve: code in C that does not let go of the interpreter (a
  regular expression that backtracks without end, the sum of a huge range) keeps the loop, other threads and signal
  handlers from running. What each thread was doing goes to the log, and the process ends. This alarm counts the
  process's own processor time; by then the edge has answered the calls with 504.
A function cannot use the two signals for itself.
"""

from __future__ import annotations

import asyncio
import ctypes
import faulthandler
import signal
from collections.abc import Callable
from types import FrameType

from rescoldo.runtime.journal import JOURNAL

BEAT = 0.5  # seconds between heartbeats while calls are in flight
MARGIN = 1.0  # seconds beyond a call's own deadline, which answers better while the loop runs
LAST_MARGIN = 6.0  # seconds beyond it for the second alarm: the edge waits 5, and repeats no call that it has answered

_libc = ctypes.CDLL(None)
_libc.signal.argtypes = (ctypes.c_int, ctypes.c_void_p)
_libc.signal.restype = ctypes.c_void_p


class Watchdog:
    """Calls `bark`, which must end the process, when the loop stood still for `limit` + MARGIN seconds; ends the
    process itself when it did for `limit` + LAST_MARGIN seconds of processor time. Without `bark` there is only the
    latter."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, limit: float, busy: Callable[[], bool], bark: Callable[[], None] | None
    ) -> None:
        self._loop = loop
        self._limit = limit
        self._busy = busy
        self._bark = bark
        self._beating = False
        self._prepared = False

    def watch(self) -> None:
        """Calls are in flight from now on, until `busy` says no. To be called before one begins: it might never let go
        of the interpreter."""
        if not self._beating:
            self._prepare()
            self._put_off(True)

    def _prepare(self) -> None:
        if self._bark is not None:  # each time: a library may have taken the signal
            signal.signal(signal.SIGALRM, self._alarm)
        if not self._prepared:
            self._prepared = True
            # both handlers are C: the first writes, then calls the second
            _libc.signal(signal.SIGVTALRM, ctypes.cast(_libc._exit, ctypes.c_void_p))
            faulthandler.register(signal.SIGVTALRM, file=JOURNAL.descriptor, all_threads=True, chain=True)

    def _beat(self) -> None:
        self._put_off(self._busy())

    def _put_off(self, busy: bool) -> None:
        """Put the alarms off until after the next beat, or for good."""
        self._beating = busy
        if self._bark is not None:
            signal.setitimer(signal.ITIMER_REAL, self._limit + MARGIN if busy else 0.0)
        signal.setitimer(signal.ITIMER_VIRTUAL, self._limit + LAST_MARGIN if busy else 0.0)
        if busy:
            self._loop.call_later(BEAT, self._beat)

    def _alarm(self, number: int, frame: FrameType | None) -> None:
        assert self._bark is not None
        self._bark()
