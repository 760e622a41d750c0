"""Limits how many instances start at once, few of them in place of an ended process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from rescoldo.policy.turn_queue import TurnQueue

AT_ONCE = 8  # starts
REPLACED_AT_ONCE = 2  # starts among them that replace an ended process


class StartQueue:
    """Gives starts their turn: `at_once` at a time, of which at most REPLACED_AT_ONCE replace an ended process."""

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._turns = TurnQueue(at_once)
        self._replacing = asyncio.Semaphore(REPLACED_AT_ONCE)
        self._waiting = 0  # wakes that wait for a turn
        self._none_waits = asyncio.Event()
        self._none_waits.set()

    @contextlib.asynccontextmanager
    async def turn(self, function: str, *, replacing: bool) -> AsyncIterator[None]:
        """Wait for a turn and keep it until the block ends. `replacing`: the start replaces an ended process. Few
        replacements run at once: functions that crash again and again would otherwise keep other functions' wakes
        waiting."""
        async with contextlib.AsyncExitStack() as turn:
            if replacing:
                await turn.enter_async_context(self._replacing)
            self._count(not replacing)
            try:
                await turn.enter_async_context(self._turns.turn(function))
            finally:
                self._count(-(not replacing))
            yield

    def _count(self, more: int) -> None:
        self._waiting += more
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
