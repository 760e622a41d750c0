"""Instance seconds; on virtual time."""

from __future__ import annotations

import asyncio

import pytest
from control_world import FN, World

from rescoldo.control.fleet.lifetimes import Lifetimes
from rescoldo.model.names import InstanceId, function_id

OTHER = function_id("other")
ONE, TWO = InstanceId("fn-1"), InstanceId("fn-2")


def test_seconds_count_running_and_ended_instances_of_a_function() -> None:
    lifetimes = Lifetimes()
    lifetimes.began(FN, ONE, 10.0)
    lifetimes.began(FN, TWO, 12.0)
    lifetimes.began(OTHER, InstanceId("other-1"), 19.0)
    lifetimes.ended(ONE, 15.0)
    lifetimes.ended(ONE, 18.0)
    assert lifetimes.seconds(20.0) == {FN: 5.0 + 8.0, OTHER: 1.0}
    assert lifetimes.counts() == {FN: 1, OTHER: 1}


def test_a_removed_function_is_not_reported_even_if_an_instance_ends_later() -> None:
    lifetimes = Lifetimes()
    lifetimes.began(FN, ONE, 0.0)
    lifetimes.forget(FN)
    assert (lifetimes.seconds(5.0), lifetimes.counts()) == ({}, {})
    lifetimes.ended(ONE, 9.0)
    assert (lifetimes.seconds(9.0), lifetimes.counts()) == ({}, {})


@pytest.mark.looptime
async def test_an_instance_counts_from_its_start_order_to_the_end_of_its_process(world: World) -> None:
    world.node.stop_delay = 3.0
    await world.deploy(window="10s")
    await world.edge.call(FN)
    await world.until(lambda: world.asleep())
    await asyncio.sleep(60)
    # the window, the polls before it sleeps, and the end of the process
    seconds = world.fleet.instances.lifetimes.seconds(asyncio.get_running_loop().time())
    assert seconds == {FN: pytest.approx(13.2, abs=0.2)}


@pytest.mark.looptime
async def test_a_new_controller_counts_adopted_instances_from_then_on(world: World) -> None:
    await world.deploy()
    await world.edge.call(FN)
    await asyncio.sleep(100)
    new = await world.restart_controller()
    await asyncio.sleep(5)
    now = asyncio.get_running_loop().time()
    assert new.fleet.instances.lifetimes.seconds(now) == {FN: pytest.approx(5.0, abs=0.1)}
    await new.settle()
    await new.close()
