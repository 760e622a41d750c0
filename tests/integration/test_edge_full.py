"""The edge reports a full slot to the controller at once, and requests do not wait for the report."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from rescoldo.edge.protocol import Route
from rescoldo.model.names import SlotName, function_id
from support.real_edge import Message, RealEdge, ok, rss

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]

FN, S1 = function_id("fn"), SlotName("s1")


class Slot:
    """`s1` with one instance that takes two requests at once and answers when `open` is set."""

    def __init__(self, real: RealEdge) -> None:
        self.real = real
        self.open = asyncio.Event()
        self.calls: list[asyncio.Task[Message]] = []

    async def respond(self, _: Message) -> bytes:
        await self.open.wait()
        return ok("done")

    async def call(self, count: int, load: int) -> None:
        """Make `count` more calls; return when the slot has `load` calls."""
        self.calls += [asyncio.create_task(self.real.call("/function/fn")) for _ in range(count)]

        async def there() -> bool:
            return (await self.real.edge.load(S1)).in_flight == load

        await self.real.until(there)

    async def end(self) -> set[int]:
        self.open.set()
        return {answer.status for answer in await asyncio.gather(*self.calls)}


@pytest.fixture
async def slot() -> AsyncIterator[Slot]:
    real = RealEdge()
    try:
        await real.boot()
        made = Slot(real)
        await real.place("s1", "one", made.respond, concurrency=2)
        await real.edge.set_route(Route(FN, S1))
        yield made
    finally:
        await real.close()


async def test_a_slot_with_room_is_not_reported(slot: Slot) -> None:
    await slot.call(2, load=2)
    assert await slot.end() == {200}
    assert slot.real.full == []


async def test_the_first_queued_request_reports_its_slot(slot: Slot) -> None:
    await slot.call(3, load=3)
    await slot.real.until(lambda: slot.real.full == [S1])
    assert await slot.end() == {200}


async def test_a_slot_is_not_reported_again_within_the_controllers_pause(slot: Slot) -> None:
    slot.real.full_again = 60_000
    await slot.call(3, load=3)
    await slot.real.until(lambda: slot.real.full)
    await slot.call(200, load=203)
    assert slot.real.full == [S1]
    assert await slot.end() == {200}


async def test_a_slot_that_stays_full_is_reported_again(slot: Slot) -> None:
    await slot.call(3, load=3)
    await slot.real.until(lambda: slot.real.full)
    told = len(slot.real.full)
    for load in range(4, 100):
        await slot.call(1, load=load)
        if len(slot.real.full) > told:
            break
    assert len(slot.real.full) > told
    assert await slot.end() == {200}


async def test_requests_do_not_wait_for_a_dead_controller(slot: Slot) -> None:
    slot.real.stop_controller()
    await slot.call(10, load=10)
    slot.open.set()
    async with asyncio.timeout(5):
        assert await slot.end() == {200}


async def test_reports_of_full_slots_cost_no_memory(slot: Slot) -> None:
    assert slot.real.child is not None
    slot.real.full_again = 0
    sizes = []
    for _ in range(4):
        for _ in range(50):
            await slot.call(3, load=3)
            await slot.end()
            slot.open.clear()
            slot.calls.clear()
        sizes.append(rss(slot.real.child.pid))
    assert len(slot.real.full) >= 150
    assert sizes[-1] - sizes[1] < 2**20
