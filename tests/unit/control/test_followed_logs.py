"""Following logs across a restart of the node."""

from __future__ import annotations

import asyncio

import pytest
from control_world import FN, World

from rescoldo.model.errors import NotFound
from rescoldo.model.names import InstanceId

ONE = InstanceId("one")

pytestmark = pytest.mark.looptime


async def test_a_followed_log_continues_after_a_restart_of_the_node(world: World) -> None:
    await world.deploy()
    world.node.print(FN, ONE, "before")
    found: list[str] = []

    async def read() -> None:
        lines = world.logs.read(FN, tail=None, since=None, follow=True, instance="")
        async for line in lines:
            found.append(line.text)  # noqa: PERF401 - one by one

    reading = asyncio.create_task(read())
    await asyncio.sleep(1)
    world.node.print(FN, ONE, "a")
    world.node.print(FN, ONE, "b")  # with the same timestamp
    world.node.print(FN, InstanceId(""), "7 more calls failed")  # a remark of the platform
    await asyncio.sleep(1)
    world.node.reachable = False
    await asyncio.sleep(1)
    world.node.reachable = True
    world.node.print(FN, ONE, "meanwhile")
    await asyncio.sleep(1)
    world.node.print(FN, ONE, "after")
    await asyncio.sleep(1)
    assert found == ["before", "a", "b", "7 more calls failed", "meanwhile", "after"]
    world.node.reachable = False
    del world.fleet.entries[FN]
    with pytest.raises(NotFound):
        await reading
