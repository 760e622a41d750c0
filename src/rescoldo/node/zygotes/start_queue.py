"""Limits how many instances start at once, and gives the others their turns by the rule of policy/turns.py."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from rescoldo.policy.turns import Turns

AT_ONCE = 8  # starts
REPLACED_AT_ONCE = 2  # starts among them that replace an ended process


class StartQueue:
    """Gives starts their turn: `at_once` at a time, of which at most REPLACED_AT_ONCE replace an ended process."""

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._free = at_once
        self._turns: Turns[asyncio.Future[None]] = Turns()  # of waiting starts; done: a start that was cancelled
        self._replacing = asyncio.Semaphore(REPLACED_AT_ONCE)
        self._waiting = 0  # wakes that wait for a turn
        self._none_waits = asyncio.Event()
        self._none_waits.set()

    @contextlib.asynccontextmanager
    async def turn(self, function: str, *, replacing: bool) -> AsyncIterator[None]:
        """Wait for a turn and keep it until the block ends. `replacing`: the start replaces an ended process. Few
        replacements run at once: functions that crash again and again would otherwise keep other functions' wakes
        waiting."""
        async with self._replacing if replacing else contextlib.nullcontext():
            await self._wait(function, counted=not replacing)
            try:
                yield
            finally:
                self._release()

    async def _wait(self, function: str, *, counted: bool) -> None:
        if self._free:  # then nobody waits
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._turns.add(function, turn)
        self._waiting += counted
        self._tell()
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it got its turn in the same moment
                self._release()
            raise
        finally:
            self._waiting -= counted
            self._tell()

    def _release(self) -> None:
        """Pass a turn on to a start that still waits for one."""
        while self._turns:
            turn = self._turns.take()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

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
