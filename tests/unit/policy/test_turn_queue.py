"""The queue of starts that wait for a turn: no turn is lost, and none is given twice."""

from __future__ import annotations

import asyncio

import pytest

from rescoldo.policy.turn_queue import TurnQueue

pytestmark = pytest.mark.looptime
AT_ONCE = 2


@pytest.fixture
def queue() -> TurnQueue:
    return TurnQueue(AT_ONCE)


async def start(
    queue: TurnQueue, function: str, seconds: float, longest: float | None, began: dict[str, float]
) -> None:
    """Start a function for some seconds; note when it got its turn."""
    async with queue.turn(function, longest=longest):
        began[function] = asyncio.get_running_loop().time()
        await asyncio.sleep(seconds)


async def begun(queue: TurnQueue, seconds: float, longest: float | None, *functions: str) -> dict[str, float]:
    """Begin starts one after another; once all have ended, return the seconds that each waited."""
    began: dict[str, float] = {}
    zero = asyncio.get_running_loop().time()
    async with asyncio.TaskGroup() as group:
        for function in functions:
            group.create_task(start(queue, function, seconds, longest, began))
    return {function: round(at - zero, 3) for function, at in began.items()}


async def test_others_wait_until_a_start_ends_the_newest_first_and_then_the_oldest(queue: TurnQueue) -> None:
    assert await begun(queue, 1.0, None, "a", "b", "c", "d", "e", "f") == {
        "a": 0.0, "b": 0.0, "f": 1.0, "c": 1.0, "e": 2.0, "d": 2.0,
    }  # fmt: skip


async def test_a_start_that_takes_long_lets_the_next_one_start(queue: TurnQueue) -> None:
    assert await begun(queue, 60.0, 0.1, "a", "b", "c", "d") == {"a": 0.0, "b": 0.0, "d": 0.1, "c": 0.1}


async def test_a_turn_that_was_passed_on_early_is_not_passed_on_again(queue: TurnQueue) -> None:
    await begun(queue, 1.0, 0.1, "a", "b", "c")
    assert await begun(queue, 1.0, None, "a", "b", "c") == {"a": 0.0, "b": 0.0, "c": 1.0}


async def test_starts_that_were_cancelled_or_failed_leave_their_turns_to_others(queue: TurnQueue) -> None:
    began: dict[str, float] = {}
    tasks = [asyncio.create_task(start(queue, name, 60.0, None, began)) for name in ("a", "b", "c", "d")]
    await asyncio.sleep(1)
    tasks[0].cancel()
    tasks[3].cancel()  # it is the newest
    await asyncio.sleep(1)
    assert began.keys() == {"a", "b", "c"}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    with pytest.raises(OSError, match="broken"):
        async with queue.turn("a"):
            raise OSError("broken")
    assert await begun(queue, 1.0, None, "a", "b", "c") == {"a": 0.0, "b": 0.0, "c": 1.0}
