"""A node's reports to watchers of lost instances."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from rescoldo.model.names import FunctionId, InstanceId
from rescoldo.node.exits import _WATCHER_QUEUE, Exits
from rescoldo.node.protocol import Exit


def lost(number: int) -> Exit:
    return Exit(InstanceId(f"i-{number}"), FunctionId("f.openfaas-fn"), "killed")


async def test_a_watcher_gets_each_exit_in_order() -> None:
    exits = Exits()
    async with aclosing(exits.watch()) as told:
        first = asyncio.ensure_future(anext(told))
        await asyncio.sleep(0)
        exits.tell(lost(1))
        exits.tell(lost(2))
        assert [await first, await anext(told)] == [lost(1), lost(2)]


async def test_a_watcher_that_missed_exits_must_compare_and_gets_later_ones() -> None:
    exits = Exits()
    async with aclosing(exits.watch()) as told:
        first = asyncio.ensure_future(anext(told))
        await asyncio.sleep(0)
        for number in range(_WATCHER_QUEUE + 1):
            exits.tell(lost(number))
        exits.tell(lost(-1))
        assert [await first, await anext(told)] == [None, lost(-1)]
