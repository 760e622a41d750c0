"""Who starts now, and who waits."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from rescoldo.node.zygotes.start_queue import AT_ONCE, REPLACED_AT_ONCE, StartQueue


class Starts:
    """Starts that are under way until they are told to end."""

    def __init__(self, places: StartQueue) -> None:
        self._places = places
        self._end = asyncio.Event()
        self.under_way = 0
        self.tasks: list[asyncio.Task[None]] = []

    async def begin(self, count: int, *, again: bool = False) -> None:
        self.tasks += [asyncio.create_task(self._one(again)) for _ in range(count)]
        await self.settle()

    async def settle(self) -> None:
        for _ in range(20):  # turns of the loop: nothing here waits for anything else
            await asyncio.sleep(0)

    async def _one(self, again: bool) -> None:
        async with self._places.one(again=again):
            self.under_way += 1
            try:
                await self._end.wait()
            finally:
                self.under_way -= 1


@pytest.fixture
def places() -> StartQueue:
    return StartQueue()


@pytest.fixture
async def starts(places: StartQueue) -> AsyncIterator[Starts]:
    starts = Starts(places)
    yield starts
    for task in starts.tasks:
        task.cancel()
    await asyncio.gather(*starts.tasks, return_exceptions=True)
    assert starts.under_way == 0
    assert not places.waited_for


async def test_a_few_are_under_way_at_once_and_a_place_that_is_left_is_the_next_ones(starts: Starts) -> None:
    await starts.begin(AT_ONCE + 3)
    assert starts.under_way == AT_ONCE
    starts.tasks[0].cancel()
    await starts.settle()
    assert starts.under_way == AT_ONCE
    assert [task.done() for task in starts.tasks].count(True) == 1


async def test_replacements_leave_places_to_wakes(starts: Starts) -> None:
    await starts.begin(AT_ONCE + 3, again=True)
    assert starts.under_way == REPLACED_AT_ONCE
    await starts.begin(AT_ONCE)
    assert starts.under_way == AT_ONCE


async def test_a_wake_that_waits_is_told_of_until_it_has_its_place_or_is_called_off(
    places: StartQueue, starts: Starts
) -> None:
    await starts.begin(AT_ONCE)
    assert not places.waited_for
    await starts.begin(2)
    quiet = asyncio.create_task(places.none_waits())
    starts.tasks[-1].cancel()
    await starts.settle()
    assert places.waited_for
    assert not quiet.done()
    starts.tasks[0].cancel()
    await starts.settle()
    assert not places.waited_for
    await quiet


async def test_replacements_that_wait_are_not_waited_for(places: StartQueue, starts: Starts) -> None:
    await starts.begin(AT_ONCE)
    await starts.begin(AT_ONCE, again=True)
    assert not places.waited_for


async def test_a_start_that_fails_leaves_its_place(places: StartQueue, starts: Starts) -> None:
    for _ in range(AT_ONCE + 1):
        with contextlib.suppress(OSError):
            async with places.one(again=False):
                raise OSError
    await starts.begin(AT_ONCE)
    assert starts.under_way == AT_ONCE
