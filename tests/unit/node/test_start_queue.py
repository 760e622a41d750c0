"""The start queue: which starts run, and which wait for their turn."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from rescoldo.node.zygotes.start_queue import REPLACED_AT_ONCE, StartQueue

AT_ONCE = 4


class Starts:
    """Starts that run until a test ends them."""

    def __init__(self, queue: StartQueue) -> None:
        self._queue = queue
        self._end = asyncio.Event()
        self.under_way = 0
        self.order: list[str] = []  # functions whose starts got a turn
        self.tasks: list[asyncio.Task[None]] = []

    async def begin(self, count: int, *, function: str = "f.ns", replacing: bool = False) -> None:
        self.tasks += [asyncio.create_task(self._one(function, replacing), name=function) for _ in range(count)]
        await self.settle()

    async def end(self, task: int) -> None:
        """End a start, so that its turn passes on."""
        self.tasks[task].cancel()
        await self.settle()

    async def settle(self) -> None:
        for _ in range(20):  # turns of the loop are enough: there is no I/O
            await asyncio.sleep(0)

    async def _one(self, function: str, replacing: bool) -> None:
        async with self._queue.turn(function, replacing=replacing):
            self.order.append(function)
            self.under_way += 1
            try:
                await self._end.wait()
            finally:
                self.under_way -= 1


@pytest.fixture
def queue() -> StartQueue:
    return StartQueue(AT_ONCE)


@pytest.fixture
async def starts(queue: StartQueue) -> AsyncIterator[Starts]:
    starts = Starts(queue)
    yield starts
    for task in starts.tasks:
        task.cancel()
    await asyncio.gather(*starts.tasks, return_exceptions=True)
    assert starts.under_way == 0
    assert not queue.waited_for


async def test_a_few_starts_run_at_once_and_the_next_gets_a_turn_that_ends(starts: Starts) -> None:
    await starts.begin(AT_ONCE + 3)
    assert starts.under_way == AT_ONCE
    starts.tasks[0].cancel()
    await starts.settle()
    assert starts.under_way == AT_ONCE
    assert [task.done() for task in starts.tasks].count(True) == 1


async def test_replacements_leave_turns_for_wakes(starts: Starts) -> None:
    await starts.begin(AT_ONCE + 3, replacing=True)
    assert starts.under_way == REPLACED_AT_ONCE
    await starts.begin(AT_ONCE)
    assert starts.under_way == AT_ONCE


async def test_a_waiting_wake_is_reported_until_it_has_its_turn_or_is_cancelled(
    queue: StartQueue, starts: Starts
) -> None:
    await starts.begin(AT_ONCE)
    assert not queue.waited_for
    await starts.begin(2)
    quiet = asyncio.create_task(queue.none_waits())
    starts.tasks[-1].cancel()
    await starts.settle()
    assert queue.waited_for
    assert not quiet.done()
    starts.tasks[0].cancel()
    await starts.settle()
    assert not queue.waited_for
    await quiet


async def test_waiting_replacements_are_not_reported(queue: StartQueue, starts: Starts) -> None:
    await starts.begin(AT_ONCE)
    await starts.begin(AT_ONCE, replacing=True)
    assert not queue.waited_for


async def test_a_start_that_fails_ends_its_turn(queue: StartQueue, starts: Starts) -> None:
    for _ in range(AT_ONCE + 1):
        with contextlib.suppress(OSError):
            async with queue.turn("f.ns", replacing=False):
                raise OSError
    await starts.begin(AT_ONCE)
    assert starts.under_way == AT_ONCE


async def test_a_function_that_comes_last_does_not_wait_for_all_others(starts: Starts) -> None:
    await starts.begin(AT_ONCE)
    for number in range(20):
        await starts.begin(1, function=f"other-{number}.ns")
    await starts.begin(1, function="late.ns")
    await starts.end(0)
    await starts.end(1)
    assert starts.order[AT_ONCE:] == ["late.ns", "other-0.ns"]


async def test_a_start_cancelled_while_it_waits_takes_no_turn(starts: Starts) -> None:
    await starts.begin(AT_ONCE)
    await starts.begin(2, function="waits.ns")
    await starts.end(AT_ONCE)
    await starts.end(0)
    assert starts.under_way == AT_ONCE
    assert starts.order[AT_ONCE:] == ["waits.ns"]


async def test_a_turn_given_in_the_moment_of_a_cancellation_passes_on(starts: Starts) -> None:
    await starts.begin(AT_ONCE + 2)
    starts.tasks[0].cancel()
    await asyncio.sleep(0)  # the turn is given, and the start that gets it has not run yet
    starts.tasks[-1].cancel()
    await starts.settle()
    assert starts.under_way == AT_ONCE
    assert not starts.tasks[-2].done()
