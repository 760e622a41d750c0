"""Restarts of controller, edge and node; on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest
from control_world import FN, World, stray

from rescoldo.edge.protocol import EdgeState, LiveServer
from rescoldo.model.errors import EdgeUnavailable
from rescoldo.model.names import SlotName

pytestmark = pytest.mark.looptime


async def test_a_new_controller_adopts_running_instances_in_their_slots(world: World) -> None:
    await world.deploy()
    await world.scaling.scale(FN, 2)
    await world.settle()
    slot, instances = world.awake().slot, world.instances()
    new = await world.restart_controller()
    await new.settle(10)
    assert (new.awake().slot, set(new.instances())) == (slot, set(instances))
    assert await new.edge.call(FN) in instances
    assert len(world.node.started) == 2
    await new.close()


@pytest.mark.parametrize(
    "launch",
    [stray("nobody", "x-1"), stray("fn", "x-2", digest="b" * 64), stray("fn", "x-3", revision=9)],
    ids=["unknown function", "other bundle", "other revision"],
)
async def test_an_instance_of_no_current_deployment_is_stopped(world: World, launch: object) -> None:
    await world.deploy()
    running = await world.node.start(launch)  # type: ignore[arg-type]
    await world.edge.add_server(LiveServer(SlotName("s3"), running.launch.instance, running.address, 1))
    new = await world.restart_controller()
    await new.settle()
    assert await new.running() == []
    await new.close()


async def test_of_instances_in_two_slots_only_those_of_one_are_kept(world: World) -> None:
    generation = (await world.deploy()).function.generation
    for slot, name in (("s3", "x-1"), ("s4", "x-2")):
        running = await world.node.start(stray("fn", name, generation=generation))
        await world.edge.add_server(LiveServer(SlotName(slot), running.launch.instance, running.address, 1))
    new = await world.restart_controller()
    await new.settle()
    assert len(new.instances()) == 1
    await new.close()


async def test_an_instance_of_a_removed_function_of_the_same_name_is_not_adopted(world: World) -> None:
    removed = await world.deploy(version="1")
    await world.removals.remove(removed.id)
    await asyncio.sleep(1.0)
    again = await world.deploy(version="1")
    assert again.function.revision == removed.function.revision
    running = await world.node.start(stray("fn", "x-1", generation=removed.function.generation))
    await world.edge.add_server(LiveServer(SlotName("s3"), running.launch.instance, running.address, 1))
    new = await world.restart_controller()
    assert new.asleep()
    await new.settle()
    await new.close()


async def test_an_instance_without_a_slot_joins_the_serving_ones(world: World) -> None:
    generation = (await world.deploy()).function.generation
    await world.node.start(stray("fn", "x-1", generation=generation))  # the earlier controller was scaling out
    running = await world.node.start(stray("fn", "x-2", generation=generation))
    await world.edge.add_server(LiveServer(SlotName("s3"), running.launch.instance, running.address, 1))
    new = await world.restart_controller()
    assert (new.awake().slot, sorted(new.instances())) == ("s3", ["x-1", "x-2"])
    await new.settle()
    await new.close()


async def test_calls_of_a_draining_revision_finish_even_if_the_controller_is_killed(world: World) -> None:
    first = await world.deploy()
    served: list[str] = []

    async def work(function: object, instance: str) -> None:
        await asyncio.sleep(20)
        served.append(instance)

    world.edge.work = work
    call = asyncio.create_task(world.edge.call(FN))
    await world.until(lambda: first.awake is not None and world.edge._slots[first.awake.slot].total)
    before = world.instances()
    await world.deploy()
    new = await world.restart_controller()
    assert new.instances() != before
    assert [await call] == served == before
    await new.settle()
    assert await new.running() == new.instances()
    await new.close()


async def test_an_adopted_instance_gets_requests_even_if_it_was_being_put_to_sleep(world: World) -> None:
    await world.deploy()
    instance = await world.edge.call(FN)
    slot = world.awake().slot
    world.edge._slots[slot].servers[instance].enabled = False  # killed while it put the function to sleep
    new = await world.restart_controller()
    assert await new.edge.call(FN) == instance
    await new.settle()
    await new.close()


async def test_an_instance_that_the_edge_forgot_is_adopted_in_a_new_slot(world: World) -> None:
    await world.deploy()
    await world.edge.call(FN)
    instances = world.instances()
    world.edge.restart()
    new = await world.restart_controller()
    await new.settle()
    assert new.instances() == instances
    await new.close()


async def test_an_adopted_function_falls_asleep(world: World) -> None:
    await world.deploy(window="2s")
    await world.edge.call(FN)
    new = await world.restart_controller()
    await new.settle()
    assert new.asleep()
    await new.close()


async def test_an_instance_that_the_old_controller_was_starting_does_not_leak(world: World) -> None:
    await world.deploy()
    world.node.start_delay = 1.0
    call = asyncio.create_task(world.edge.call(FN))
    await asyncio.sleep(0.5)
    new = await world.restart_controller()
    await asyncio.gather(call, return_exceptions=True)
    await new.edge.call(FN)
    await new.settle()
    await new.close()


async def test_a_restarted_edge_gets_the_whole_state_and_serves_at_once(world: World) -> None:
    await world.deploy()
    await world.deploy("asleep")
    await world.edge.call(FN)
    world.edge.fail["synchronise"] = 3
    world.edge.restart()
    assert await world.edge.call(FN) == world.instances()[0]
    await world.settle()


async def test_a_state_that_the_edge_did_not_confirm_counts_no_route_as_published(world: World) -> None:
    entry = await world.deploy()
    routes, edge = world.fleet.routes, world.edge
    whole = edge.synchronise

    async def fail_half_way(wanted: Callable[[], EdgeState]) -> None:
        wanted()
        edge.routes.clear()
        raise EdgeUnavailable

    edge.synchronise = fail_half_way  # type: ignore[method-assign]
    with pytest.raises(EdgeUnavailable):
        await routes.synchronise()
    await routes.publish(entry)
    assert edge.routes == {FN: entry.route}
    edge.synchronise = whole  # type: ignore[method-assign]
    await world.settle()


async def test_a_route_sent_while_a_state_is_applied_takes_precedence(world: World) -> None:
    entry = await world.deploy()
    await world.edge.call(FN)
    world.edge.delay = 2.0
    asleep = replace(entry.route, slot=None)
    sending = asyncio.create_task(world.fleet.routes.synchronise())
    await asyncio.sleep(1.5)  # the edge has applied the state and not yet confirmed it
    world.edge.delay = 0.0
    await world.fleet.retirement.close(entry)
    assert entry.published == asleep
    await sending
    assert entry.published == asleep == world.edge.routes[FN]
    await world.settle()


async def test_writing_a_state_for_a_reload_counts_no_route_as_published(world: World) -> None:
    entry = await world.deploy()
    world.edge.routes.clear()
    entry.published = None
    world.fleet.routes.edge_state()
    await world.fleet.routes.publish(entry)
    assert world.edge.routes == {FN: entry.route}


async def test_instances_that_a_new_node_does_not_know_are_replaced_on_demand(world: World) -> None:
    await world.deploy()
    await world.edge.call(FN)
    (before,) = world.instances()
    world.node.reachable = False
    world.node._running.clear()
    world.node.reachable = True
    await world.settle()
    assert await world.edge.call(FN) != before
    await world.settle()


async def test_an_instance_whose_start_is_not_confirmed_yet_is_not_stopped_as_a_stray(world: World) -> None:
    await world.deploy()
    await world.edge.call(FN)
    world.node.answer_delay = 1.0
    await world.scaling.scale(FN, 2)
    await asyncio.sleep(0.5)
    world.node.reachable = False
    world.node.reachable = True
    await world.settle()
    assert world.node.stopped == []
    assert len(world.instances()) == 2


async def test_instances_that_only_the_node_knows_are_stopped_when_it_returns(world: World) -> None:
    await world.deploy()
    await world.node.start(stray("fn", "x-1"))
    world.node.reachable = False
    world.node.reachable = True
    await world.settle()
    assert await world.running() == []
