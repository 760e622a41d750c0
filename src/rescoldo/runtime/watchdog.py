"""Notices a blocked event loop: no call in the instance can see its deadline then.

A heartbeat on the loop postpones two alarms. When the loop stops, they fire:
- SIGALRM, only if handlers run on the loop, interrupts the Python code that blocks it. All calls get their 504, and
  the process ends.
- SIGVTALRM, for all handlers, needs no Python code to run. C code that does not release the interpreter (a regular
  expression that backtracks without end, the sum of a huge range) keeps the loop, other threads and signal handlers
  from running. The log gets the traceback of each thread, and the process ends. This alarm counts the process's own
  processor time; by then the edge has answered the calls with 504.

A function cannot use the two signals itself.
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
MARGIN = 1.0  # seconds after a call's own deadline, whose response is better while the loop still runs
LAST_MARGIN = 6.0  # seconds after it, for SIGVTALRM: the edge waits 5 and does not repeat a call that it has answered

_libc = ctypes.CDLL(None)
_libc.signal.argtypes = (ctypes.c_int, ctypes.c_void_p)
_libc.signal.restype = ctypes.c_void_p


class Watchdog:
    """Ends the process when the loop has stood still for too long.

    Calls `bark`, which must end the process, `limit` + MARGIN seconds after the last heartbeat, unless `bark` is None.
    Ends the process itself after `limit` + LAST_MARGIN seconds of processor time.
    """

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
        """Start the heartbeat; it runs until `busy` returns False. Call this before a handler begins, which may never
        release the interpreter."""
        if not self._beating:
            self._prepare()
            self._put_off(True)

    def _prepare(self) -> None:
        if self._bark is not None:  # each time, because a library may have taken the signal
            signal.signal(signal.SIGALRM, self._alarm)
        if not self._prepared:
            self._prepared = True
            # Both handlers are C: the first writes the tracebacks, then calls the second.
            _libc.signal(signal.SIGVTALRM, ctypes.cast(_libc._exit, ctypes.c_void_p))
            faulthandler.register(signal.SIGVTALRM, file=JOURNAL.descriptor, all_threads=True, chain=True)

    def _beat(self) -> None:
        self._put_off(self._busy())

    def _put_off(self, busy: bool) -> None:
        """Postpone the alarms beyond the next heartbeat; if not `busy`, disarm them."""
        self._beating = busy
        if self._bark is not None:
            signal.setitimer(signal.ITIMER_REAL, self._limit + MARGIN if busy else 0.0)
        signal.setitimer(signal.ITIMER_VIRTUAL, self._limit + LAST_MARGIN if busy else 0.0)
        if busy:
            self._loop.call_later(BEAT, self._beat)

    def _alarm(self, number: int, frame: FrameType | None) -> None:
        assert self._bark is not None
        self._bark()
