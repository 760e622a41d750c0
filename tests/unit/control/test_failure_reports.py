from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from rescoldo.control.observe.failure_reports import MOST, PAUSE, FailureReports
from rescoldo.model.calls import FailedCall
from rescoldo.model.names import FunctionId, InstanceId, function_id
from rescoldo.node.fake import FakeNode

pytestmark = pytest.mark.looptime

FN, GONE = function_id("fn"), function_id("gone")


def calls(number: int, function: FunctionId = FN) -> list[FailedCall]:
    return [FailedCall(function, InstanceId("fn-1"), str(count), 1.0, 502) for count in range(number)]


class World:
    def __init__(self) -> None:
        self.node = FakeNode()
        self.deployed = {FN, GONE}
        self.failures = FailureReports(self.node, self.deployed.__contains__)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    running = asyncio.create_task(made.failures.run())
    yield made
    running.cancel()


async def test_failed_calls_are_passed_to_the_node_at_once(world: World) -> None:
    world.failures.add(calls(3))
    await asyncio.sleep(0.01)
    assert world.node.explained == calls(3)


async def test_of_many_failed_calls_a_few_are_passed_on_and_the_others_counted(world: World) -> None:
    world.failures.add(calls(MOST + 7))
    await asyncio.sleep(0.01)
    assert (world.node.explained, world.node.more) == (calls(MOST), {FN: 7})
    world.failures.add(calls(1))
    await asyncio.sleep(PAUSE / 2)
    assert len(world.node.explained) == MOST
    await asyncio.sleep(PAUSE)
    assert world.node.explained == calls(MOST) + calls(1)


async def test_failed_calls_wait_for_a_restarting_node_except_those_of_removed_functions(world: World) -> None:
    world.node.reachable = False
    world.failures.add(calls(1) + calls(1, GONE))
    await asyncio.sleep(10)
    world.failures.add(calls(2))
    world.deployed.remove(GONE)
    world.node.reachable = True
    await asyncio.sleep(1)
    assert world.node.explained == calls(1) + calls(2)
