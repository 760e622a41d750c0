"""Waiting in a task, and letting background tasks end."""

from __future__ import annotations

import asyncio

import pytest

from rescoldo.tasks import Tasks, set_within


async def test_a_wait_ends_when_the_event_is_set_or_the_time_has_passed() -> None:
    event = asyncio.Event()
    assert not await set_within(event, 0.0)
    assert not await set_within(event, 0.01)
    asyncio.get_running_loop().call_soon(event.set)
    assert await set_within(event, 60.0)
    assert await set_within(event, 0.0)


@pytest.mark.parametrize("turns", range(5))
async def test_a_wait_cancelled_around_the_moment_of_its_event_never_continues(turns: int) -> None:
    event, went_on = asyncio.Event(), 0

    async def wait_again_and_again() -> None:
        nonlocal went_on
        while True:
            await set_within(event, 60.0)
            went_on += 1
            event.clear()

    task = asyncio.create_task(wait_again_and_again())
    await asyncio.sleep(0)
    event.set()
    for _ in range(turns):
        await asyncio.sleep(0)
    before = went_on
    task.cancel()
    await asyncio.wait([task], timeout=5)
    assert task.cancelled()
    assert went_on == before


@pytest.mark.looptime
@pytest.mark.parametrize("turns", range(5))
async def test_a_wait_cancelled_around_its_timeout_never_continues(turns: int) -> None:
    task = asyncio.create_task(set_within(asyncio.Event(), 1.0))
    await asyncio.sleep(1.0)
    for _ in range(turns):
        await asyncio.sleep(0)
    over = task.done()
    task.cancel()
    await asyncio.wait([task])
    assert over or task.cancelled()


async def test_finish_lets_tasks_end_by_themselves_first() -> None:
    tasks, ended = Tasks(), asyncio.Event()
    done: list[str] = []

    async def wait() -> None:
        await ended.wait()
        done.append("done")

    tasks.spawn("wait", wait())
    tasks.spawn("end it", _set(ended))
    await tasks.finish(20.0)
    assert done == ["done"]


async def _set(event: asyncio.Event) -> None:
    event.set()


async def test_finish_cancels_tasks_that_do_not_end_in_time() -> None:
    tasks = Tasks()
    task = tasks.spawn("endless", asyncio.Event().wait())
    await tasks.finish(0.01)
    assert task.cancelled()
