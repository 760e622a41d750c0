"""Lets a bounded number of starts run at once; others wait for their turn by the rule of turns.py."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from rescoldo.policy.turns import Turns


class TurnQueue:
    """Gives starts their turns, `at_once` at a time. A turn that is free costs no pass of the event loop."""

    def __init__(self, at_once: int) -> None:
        self._free = at_once
        self._turns: Turns[asyncio.Future[None]] = Turns()  # of waiting starts; done: a start that was cancelled

    @contextlib.asynccontextmanager
    async def turn(self, function: str, *, longest: float | None = None) -> AsyncIterator[None]:
        """Wait for a turn and keep it until the block ends, or for `longest` seconds, whichever comes first."""
        if not self._free:
            await self._wait(function)
        else:  # nobody waits
            self._free -= 1
        with contextlib.ExitStack() as kept:
            kept.callback(self._release)
            if longest is not None:
                # `close` releases the turn, and leaves nothing to do at the end of the block
                early = asyncio.get_running_loop().call_later(longest, kept.close)
                kept.callback(early.cancel)
            yield

    async def _wait(self, function: str) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._turns.add(function, turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it got its turn in the same moment
                self._release()
            raise

    def _release(self) -> None:
        """Pass a turn on to a start that still waits for one."""
        while self._turns:
            turn = self._turns.take()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
