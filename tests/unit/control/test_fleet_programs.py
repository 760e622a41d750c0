"""Programs that bind their own socket: the edge adds them without refusing requests, and the controller replaces
them."""

from __future__ import annotations

import asyncio
from collections import deque

import pytest
from control_world import DIGEST, FN, World

from rescoldo.model.errors import InvalidInput, StartFailed
from rescoldo.model.function import FunctionSpec

pytestmark = pytest.mark.looptime

TCP = "http://127.0.0.1:8000"


async def test_the_launch_carries_the_command_and_the_upstream(world: World) -> None:
    await world.deploy(upstream=TCP)
    await world.edge.call(FN)
    launch = world.node.started[0]
    assert (launch.command, launch.upstream, launch.env["fprocess"]) == (("./server",), "tcp:8000", "./server")


@pytest.mark.parametrize("upstream", [TCP, "unix", "inherited"])
async def test_the_edge_gets_the_first_instance_while_it_starts_and_others_when_ready(
    world: World, upstream: str
) -> None:
    await world.deploy(upstream=upstream, **{"com.openfaas.scale.max": "2"})
    world.node.start_delay = 1.0
    call = asyncio.create_task(world.edge.call(FN))
    await asyncio.sleep(0.5)
    assert (len(await world.edge.servers()), world.edge.routes[FN].slot) == (1, None)
    await call
    await world.scaling.scale(FN, 2)
    await asyncio.sleep(0.5)
    assert len(await world.edge.servers()) == 1
    await world.until(lambda: len(world.instances()) == 2)
    assert len(await world.edge.servers()) == 2
    await world.settle()


async def test_the_edge_forgets_a_program_that_does_not_start(world: World) -> None:
    await world.deploy(upstream=TCP)
    world.node.start_delay = 1.0
    world.node.fail[FN] = deque([StartFailed("exit status 3 before it was ready")])
    with pytest.raises(StartFailed, match="exit status 3"):
        await world.fleet.wakes.wake(FN)
    await world.settle()
    assert await world.edge.servers() == set()


async def test_a_program_that_is_ready_only_after_scaling_to_zero_is_stopped_and_joins_no_slot(world: World) -> None:
    await world.deploy(upstream=TCP, **{"com.openfaas.scale.max": "2"})
    await world.edge.call(FN)
    world.node.start_delay = 5.0
    await world.scaling.scale(FN, 2)
    await asyncio.sleep(1)
    await world.scaling.scale(FN, 0)
    await world.settle()
    assert await world.running() == []
    assert await world.edge.servers() == set()


async def test_an_instance_that_ends_before_the_edge_knows_it_fails_the_wake(world: World) -> None:
    await world.deploy(upstream=TCP)
    world.edge.delay = 2.0
    wake = asyncio.create_task(world.fleet.wakes.wake(FN))
    await world.until(lambda: world.node.started)
    await asyncio.sleep(1)
    world.node.lose(world.node.started[0].instance, "exit status 7", lived=0.1)
    with pytest.raises(StartFailed, match="exit status 7 right after it was ready"):
        await wake
    await world.settle()
    assert await world.running() == []


async def test_a_program_that_must_not_sleep_and_keeps_dying_is_restarted_with_growing_back_off(world: World) -> None:
    await world.deploy(upstream=TCP, minimum=1)
    for _ in range(300):
        await asyncio.sleep(0.1)
        for instance in await world.running():
            world.node.lose(instance, lived=0.1)
    # in 30 s: 300 without a back-off, about 20 with one of at most 2 s
    assert 10 <= len(world.node.started) <= 30
    await world.settle()


async def test_a_bundle_that_holds_a_program_needs_its_command(world: World) -> None:
    world.bundles.put(DIGEST, "process")
    await world.deploy(upstream=TCP)
    with pytest.raises(InvalidInput, match="set fprocess to its command"):
        await world.deployments.deploy(FunctionSpec("fn", "some:image"), must_exist=False)
    await world.add_bundle("a:handler", "b" * 64)
    await world.images.load()
    await world.deployments.deploy(FunctionSpec("fn", "a:handler", env_process="python index.py"), must_exist=False)
