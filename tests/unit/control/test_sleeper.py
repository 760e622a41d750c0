"""Falling asleep, and calls at every moment of it; on virtual time."""

from __future__ import annotations

import asyncio

import pytest
from control_world import FN, World

from rescoldo.edge.protocol import SlotLoad
from rescoldo.model.names import FunctionId, InstanceId, SlotName

pytestmark = pytest.mark.looptime


async def test_an_idle_function_sleeps_after_its_window_and_not_before(world: World) -> None:
    await world.deploy(window="10s")
    await world.edge.call(FN)
    await asyncio.sleep(9.9)
    assert not world.asleep()
    await asyncio.sleep(1.5)
    assert world.asleep()
    await world.settle()
    assert await world.running() == []


async def test_a_function_sleeps_after_its_window_in_a_reused_slot(world: World) -> None:
    await world.deploy(window="10s")
    for _ in range(2 * world.slots.size):
        await world.edge.call(FN)
        await asyncio.sleep(9.9)
        assert not world.asleep()
        await asyncio.sleep(1.5)
        assert world.asleep()
        await world.settle()


async def test_a_call_in_flight_keeps_a_function_awake_however_long(world: World) -> None:
    await world.deploy(window="1s", exec_timeout="100s")

    async def work(function: FunctionId, instance: InstanceId) -> None:
        await asyncio.sleep(50)

    world.edge.work = work
    await world.edge.call(FN)
    assert not world.asleep()
    await asyncio.sleep(5)
    assert world.asleep()


async def test_calls_too_short_for_a_poll_keep_a_function_awake_without_the_access_log(world: World) -> None:
    world.edge.log = lambda function: None
    await world.deploy(window="2s")
    for _ in range(20):
        await world.edge.call(FN)
        await asyncio.sleep(1.5)
    assert len(world.node.started) == 1


async def test_a_function_that_must_not_sleep_stays_awake(world: World) -> None:
    await world.deploy(window="1s", minimum=1)
    await asyncio.sleep(100)
    assert len(world.instances()) == 1


async def test_a_redeployment_with_a_minimum_ends_the_sleep(world: World) -> None:
    await world.deploy(window="1s")
    await world.edge.call(FN)
    await asyncio.sleep(10)
    await world.deploy(window="1s", minimum=1)
    await world.settle()
    assert len(world.instances()) == 1


@pytest.mark.parametrize("delay", [0.0, 0.02])
@pytest.mark.parametrize("moment", [step * 0.01 for step in range(60)])
async def test_a_call_at_any_moment_of_falling_asleep_is_served(world: World, moment: float, delay: float) -> None:
    world.node.stop_delay = 0.1
    world.edge.delay = delay
    await world.deploy(window="1s")
    await world.edge.call(FN)
    await asyncio.sleep(0.95 + moment)
    await world.edge.call(FN)
    await world.settle(20)
    assert world.asleep()


async def test_while_the_edge_is_away_nothing_falls_asleep(world: World) -> None:
    await world.deploy(window="1s")
    await world.edge.call(FN)
    world.edge.reachable = False
    await asyncio.sleep(30)
    assert not world.asleep()
    world.edge.reachable = True
    await asyncio.sleep(5)
    assert world.asleep()


async def test_a_slow_edge_is_not_polled_again_before_it_has_answered(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.deploy(window="1s")
    await world.edge.call(FN)
    asked = 0
    load = world.edge.load

    async def slow_load(slot: SlotName) -> SlotLoad:
        nonlocal asked
        asked += 1
        await asyncio.sleep(5)
        return await load(slot)

    monkeypatch.setattr(world.edge, "load", slow_load)
    await asyncio.sleep(4)
    assert asked == 1
    await asyncio.sleep(30)
    assert world.asleep()
