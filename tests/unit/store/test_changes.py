"""The changes that wait for watchers of a source of functions."""

from __future__ import annotations

import asyncio
import gc

import pytest

from rescoldo.model.names import FunctionId
from rescoldo.store.changes import MOST, ChangeQueue, Watchers

ONE, TWO = FunctionId("one.blue"), FunctionId("two.blue")


async def handed_out(changes: ChangeQueue) -> list[FunctionId | None]:
    changes.close()
    return [changed async for changed in changes]


async def test_a_function_that_changes_often_is_queued_once_in_the_order_of_first_changes() -> None:
    changes = ChangeQueue()
    for function in (ONE, TWO, ONE, TWO, TWO):
        changes.note(function)
    assert await handed_out(changes) == [ONE, TWO]


async def test_a_full_comparison_replaces_changes_queued_before_it_begins() -> None:
    changes = ChangeQueue()
    for function in (ONE, None, TWO):
        changes.note(function)
    assert await anext(changes) is None
    changes.note(TWO)
    assert await handed_out(changes) == [TWO]


async def test_too_many_queued_changes_become_one_full_comparison() -> None:
    changes = ChangeQueue()
    for number in range(MOST):
        changes.note(FunctionId(f"f{number}.blue"))
    assert await anext(changes) == "f0.blue"
    for function in (ONE, TWO):
        changes.note(function)
    assert await handed_out(changes) == [None]


async def test_a_waiting_watcher_is_woken_and_a_cancelled_wait_loses_nothing() -> None:
    watchers = Watchers()
    changes = watchers.add()
    waiting = asyncio.ensure_future(anext(changes))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    waiting = asyncio.ensure_future(anext(changes))
    await asyncio.sleep(0)
    watchers.note(ONE)
    assert await waiting == ONE


async def test_a_watcher_without_references_is_dropped() -> None:
    watchers = Watchers()
    kept, dropped = watchers.add(), watchers.add()
    del dropped
    gc.collect()
    assert list(watchers._all) == [kept]
