"""Limits how many instances start at once: first come first served, and wakes go before replacements."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

AT_ONCE = 8  # starts
REPLACED_AT_ONCE = 2  # starts among them that replace an ended process


class StartQueue:
    """Gives starts their turn: AT_ONCE at a time, of which at most REPLACED_AT_ONCE replace an ended process."""

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(AT_ONCE)
        self._replacing = asyncio.Semaphore(REPLACED_AT_ONCE)
        self._waiting = 0  # wakes that wait for a turn
        self._none_waits = asyncio.Event()
        self._none_waits.set()

    @contextlib.asynccontextmanager
    async def turn(self, *, replacing: bool) -> AsyncIterator[None]:
        """Wait for a turn and keep it until the block ends. `replacing`: the start replaces an ended process. Few
        replacements run at once: functions that crash again and again would otherwise keep other functions' wakes
        waiting."""
        async with self._replacing if replacing else contextlib.nullcontext():
            await self._wait(counted=not replacing)
            try:
                yield
            finally:
                self._free.release()

    async def _wait(self, *, counted: bool) -> None:
        self._waiting += counted
        self._tell()
        try:
            await self._free.acquire()
        finally:
            self._waiting -= counted
            self._tell()

    def _tell(self) -> None:
        if self._waiting:
            self._none_waits.clear()
        else:
            self._none_waits.set()

    @property
    def waited_for(self) -> bool:
        """Whether a wake waits for its turn."""
        return self._waiting > 0

    async def none_waits(self) -> None:
        """Return once no wake waits for its turn."""
        await self._none_waits.wait()
