"""Waking, stopping and scaling, on virtual time."""

from __future__ import annotations

import asyncio
from collections import deque

import pytest
from control_world import FN, World, now

from rescoldo.edge.fake import CallFailed
from rescoldo.model.errors import Busy, EdgeUnavailable, NotFound, RescoldoError, StartFailed, StartTimeout
from rescoldo.model.names import FunctionId, InstanceId, function_id

pytestmark = pytest.mark.looptime

CRASH = StartFailed("ValueError: broken at import")


async def hang(function: FunctionId, instance: InstanceId) -> None:
    await asyncio.Event().wait()


# -- waking


async def test_concurrent_calls_share_one_start_and_all_are_served_by_it(world: World) -> None:
    await world.deploy()
    world.node.start_delay = 1.0
    served = await asyncio.gather(*(world.edge.call(FN) for _ in range(30)))
    assert set(served) == set(world.instances())
    assert len(world.node.started) == 1
    assert now() == pytest.approx(1.0, abs=0.2)
    await world.settle()


async def test_the_launch_carries_the_functions_policy(world: World) -> None:
    await world.deploy(concurrency=3, exec_timeout="7s")
    await world.edge.call(FN)
    launch = world.node.started[0]
    assert (launch.function, launch.concurrency, launch.exec_timeout) == (FN, 3, 7.0)
    assert launch.instance.startswith("fn-")


async def test_a_slow_wake_does_not_delay_another_function(world: World) -> None:
    await world.deploy()
    await world.deploy("quick")
    world.node.start_delay = 10.0
    slow = asyncio.create_task(world.edge.call(FN))
    await asyncio.sleep(0.1)
    world.node.start_delay = 0.01
    await world.edge.call(function_id("quick"))
    assert now() < 1.0
    assert not slow.done()
    await slow


async def test_waking_an_unknown_function_is_not_found(world: World) -> None:
    with pytest.raises(NotFound):
        await world.fleet.wakes.wake(function_id("nobody"))


async def test_waking_an_awake_function_starts_nothing(world: World) -> None:
    await world.deploy()
    assert await world.fleet.wakes.wake(FN) == await world.fleet.wakes.wake(FN)
    assert len(world.node.started) == 1


async def test_a_client_that_leaves_does_not_end_the_start_for_others(world: World) -> None:
    await world.deploy()
    world.node.start_delay = 1.0
    first, second = (asyncio.create_task(world.edge.call(FN)) for _ in range(2))
    await asyncio.sleep(0.5)
    first.cancel()
    await second
    assert len(world.node.started) == 1


async def test_a_start_without_waiting_clients_continues_and_leaves_nothing_if_it_fails(world: World) -> None:
    await world.deploy()
    world.node.start_delay = 1.0
    world.node.fail[FN] = deque([CRASH])
    call = asyncio.create_task(world.edge.call(FN))
    await asyncio.sleep(0.5)
    call.cancel()
    await world.settle()
    assert world.asleep()


async def test_a_minimum_above_one_is_reached_after_the_first_response(world: World) -> None:
    await world.deploy(**{"com.openfaas.scale.zero": "true"}, minimum=3)
    world.node.start_delay = 1.0
    await world.edge.call(FN)
    assert now() == pytest.approx(1.0, abs=0.2)
    await world.settle()
    assert len(world.instances()) == 3


async def test_a_wake_waits_out_a_restart_of_the_node(world: World) -> None:
    await world.deploy()
    world.node.reachable = False
    call = asyncio.create_task(world.edge.call(FN))
    await asyncio.sleep(2.0)
    assert not call.done()
    world.node.reachable = True
    await call
    await world.settle()


async def test_a_wake_waits_out_a_restart_of_the_edge(world: World) -> None:
    await world.deploy()
    world.edge.fail["add_server"] = 3
    await world.edge.call(FN)
    await world.settle()


async def test_a_server_whose_confirmation_was_lost_is_removed_again(world: World) -> None:
    await world.deploy()
    world.edge.lose_answer["add_server"] = 1
    await world.edge.call(FN)
    await world.settle()


async def test_a_node_that_stays_away_fails_the_wake_after_the_ready_timeout(world: World) -> None:
    await world.deploy()
    world.node.reachable = False
    with pytest.raises(Busy):
        await world.fleet.wakes.wake(FN)
    assert now() == pytest.approx(15.0, abs=1.0)
    assert world.fleet.entries[FN].failure is None, "a fault of the platform is not the function's"
    world.node.reachable = True
    await world.edge.call(FN)
    await world.settle()


async def test_without_a_free_slot_a_wake_is_refused_and_leaves_no_failure(world: World) -> None:
    for number in range(8):
        await world.deploy(f"full-{number}")
        await world.fleet.wakes.wake(function_id(f"full-{number}"))
    await world.deploy()
    with pytest.raises(Busy):
        await world.fleet.wakes.wake(FN)
    assert world.fleet.entries[FN].failure is None
    assert world.reloads == [16]
    await world.scaling.scale(function_id("full-3"), 0)
    await world.settle(10)
    await world.edge.call(FN)
    await world.settle()


# -- failing to start


async def test_all_waiting_calls_get_the_failure_of_a_start(world: World) -> None:
    await world.deploy()
    world.node.start_delay = 0.5
    world.node.fail[FN] = deque([CRASH])
    results = await asyncio.gather(*(world.edge.call(FN) for _ in range(5)), return_exceptions=True)
    assert results == [CRASH] * 5
    assert len(world.node.started) == 1
    await world.settle()


@pytest.mark.parametrize(
    ("error", "reason"),
    [(CRASH, "crashed"), (StartTimeout("late"), "timeout"), (Busy("full"), "busy"), (RescoldoError("odd"), "other")],
)
async def test_a_failed_wake_is_counted_once_by_its_reason(world: World, error: RescoldoError, reason: str) -> None:
    entry = await world.deploy()
    world.node.start_delay = 0.5
    world.node.fail[FN] = deque([error])
    await asyncio.gather(*(world.edge.call(FN) for _ in range(5)), return_exceptions=True)
    assert entry.failed_wakes == world.fleet.wakes.failed == {reason: 1}
    assert world.fleet.wakes.succeeded == 0
    await asyncio.sleep(60)
    await world.edge.call(FN)
    assert (world.fleet.wakes.succeeded, world.fleet.wakes.failed) == (1, {reason: 1})


async def test_calls_get_the_last_failure_at_once_until_the_back_off_is_over(world: World) -> None:
    await world.deploy()
    world.node.fail[FN] = deque([CRASH, CRASH])
    for failures, delay in ((1, 0.25), (2, 0.5)):
        with pytest.raises(StartFailed):
            await world.fleet.wakes.wake(FN)
        failed_at = now()
        with pytest.raises(StartFailed):
            await world.fleet.wakes.wake(FN)
        assert now() == failed_at
        assert len(world.node.started) == failures, "there was an attempt within the back-off"
        await asyncio.sleep(delay)
    await world.edge.call(FN)
    assert world.fleet.entries[FN].failure is None
    await world.settle()


async def test_a_new_deployment_clears_the_back_off(world: World) -> None:
    await world.deploy()
    world.node.fail[FN] = deque([CRASH])
    with pytest.raises(StartFailed):
        await world.fleet.wakes.wake(FN)
    await world.deploy()
    await world.edge.call(FN)
    await world.settle()


async def test_a_start_that_takes_too_long_is_a_start_timeout(world: World) -> None:
    await world.deploy()
    world.node.start_delay = 99.0
    with pytest.raises(StartTimeout):
        await world.fleet.wakes.wake(FN)
    await world.settle()


# -- updates and removals meanwhile


async def test_calls_held_during_an_immediate_deployment_are_served_by_the_new_revision(world: World) -> None:
    await world.deploy()
    world.node.start_delay = 1.0
    calls = [asyncio.create_task(world.edge.call(FN)) for _ in range(3)]
    await asyncio.sleep(0.5)
    await world.deploy(rollout="immediate")
    calls += [asyncio.create_task(world.edge.call(FN)) for _ in range(3)]
    served = set(await asyncio.gather(*calls))
    assert [launch.revision for launch in world.node.started] == [1, 2]
    assert served == {world.node.started[1].instance}
    await world.settle()
    assert await world.running() == [world.node.started[1].instance]


async def test_a_failure_of_the_old_revision_does_not_hold_back_the_new_one(world: World) -> None:
    await world.deploy()
    world.node.start_delay = 1.0
    world.node.fail[FN] = deque([CRASH])
    old = asyncio.create_task(world.edge.call(FN))
    await asyncio.sleep(0.5)
    await world.deploy()
    assert await asyncio.gather(old, return_exceptions=True) == [CRASH]
    await world.edge.call(FN)
    await world.settle()


async def test_calls_held_during_a_removal_get_not_found(world: World) -> None:
    await world.deploy()
    world.node.start_delay = 1.0
    call = asyncio.create_task(world.edge.call(FN))
    await asyncio.sleep(0.5)
    await world.removals.remove(FN)
    with pytest.raises(NotFound):
        await call
    await world.settle()
    assert await world.running() == []


async def test_a_deployment_lets_calls_in_flight_finish_and_routes_new_ones_to_the_new_revision(world: World) -> None:
    await world.deploy()
    finish = world.hold_calls()
    old = asyncio.create_task(world.edge.call(FN))
    await asyncio.sleep(1)
    await world.deploy()
    new = asyncio.create_task(world.edge.call(FN))
    await asyncio.sleep(5)
    assert len(await world.running()) == 2
    finish.set()
    assert await old == world.node.started[0].instance
    assert await new == world.node.started[1].instance
    await world.settle()


async def test_a_call_that_outlasts_its_time_is_cut_when_its_revision_is_retired(world: World) -> None:
    await world.deploy(exec_timeout="2s")
    world.edge.work = hang
    call = asyncio.create_task(world.edge.call(FN))
    await asyncio.sleep(1)
    await world.removals.remove(FN)
    with pytest.raises(CallFailed):
        await call
    await world.settle()
    assert await world.running() == []


# -- crashes


async def test_after_a_crash_of_the_last_instance_the_next_call_wakes_another(world: World) -> None:
    await world.deploy()
    await world.edge.call(FN)
    (first,) = world.instances()
    world.lost(first)
    await world.settle()
    assert world.asleep()
    assert await world.edge.call(FN) != first
    await world.settle()


async def test_a_crashed_instance_among_several_is_replaced(world: World) -> None:
    await world.deploy()
    await world.scaling.scale(FN, 3)
    await world.settle()
    first, *others = world.instances()
    world.lost(first)
    await world.settle()
    assert set(others) < set(world.instances())
    assert len(world.instances()) == 3


async def test_queued_calls_of_a_crashed_instance_are_served_by_a_replacement(world: World) -> None:
    await world.deploy(concurrency=1, **{"com.openfaas.scale.max": "1"})
    finish = asyncio.Event()

    async def work(function: FunctionId, instance: InstanceId) -> None:
        if instance == world.node.started[0].instance:
            await finish.wait()

    world.edge.work = work
    calls = [asyncio.create_task(world.edge.call(FN)) for _ in range(4)]
    await asyncio.sleep(1)
    world.lost(world.node.started[0].instance)
    results = await asyncio.gather(*calls, return_exceptions=True)
    failed = [result for result in results if isinstance(result, Exception)]
    assert len(failed) == 1, "only the call in flight fails"
    assert {result for result in results if isinstance(result, str)} == {world.node.started[1].instance}
    await world.settle()


async def test_a_function_that_must_not_sleep_restarts_after_a_crash(world: World) -> None:
    await world.deploy(minimum=1)
    await world.settle()
    world.lost(world.instances()[0])
    await world.settle()
    assert len(world.instances()) == 1


async def test_a_function_that_must_not_sleep_is_retried_until_it_starts(world: World) -> None:
    world.node.fail[FN] = deque([CRASH] * 5)
    await world.deploy(minimum=2)
    await world.settle()
    assert len(world.instances()) == 2


async def test_an_instance_lost_after_the_removal_of_its_function_is_cleaned_up(world: World) -> None:
    await world.deploy()
    world.edge.work = hang
    call = asyncio.create_task(world.edge.call(FN))
    await asyncio.sleep(1)
    await world.removals.remove(FN)
    await asyncio.sleep(1)
    world.lost(world.node.started[0].instance)
    with pytest.raises(CallFailed):
        await call
    await world.settle()


# -- number of instances


async def test_scaling_up_and_down_reaches_the_number_without_cutting_a_call(world: World) -> None:
    await world.deploy(concurrency=1)

    async def work(function: FunctionId, instance: InstanceId) -> None:
        await asyncio.sleep(2)

    world.edge.work = work
    await world.scaling.scale(FN, 4)
    await asyncio.sleep(1)
    calls = [asyncio.create_task(world.edge.call(FN)) for _ in range(4)]
    await asyncio.sleep(0.5)
    await world.scaling.scale(FN, 1)
    assert len(set(await asyncio.gather(*calls))) == 4
    await world.settle()
    assert len(world.instances()) == 1
    await world.scaling.scale(FN, 2)
    await world.settle()
    assert len(world.instances()) == 2


async def test_scaling_to_zero_and_back_at_once_serves_calls(world: World) -> None:
    await world.deploy()
    await world.edge.call(FN)
    await world.scaling.scale(FN, 0)
    await world.edge.call(FN)
    await world.settle()
    assert len(world.instances()) == 1


async def test_scaling_up_stops_if_instances_do_not_start_and_running_ones_stay(world: World) -> None:
    await world.deploy()
    await world.edge.call(FN)
    world.node.fail[FN] = deque([CRASH])
    await world.scaling.scale(FN, 3)
    await asyncio.sleep(5)
    assert len(world.instances()) >= 1
    await world.edge.call(FN)


# -- slots


async def test_a_slot_is_returned_only_when_nothing_is_in_flight_in_it(world: World) -> None:
    await world.deploy()
    world.edge.work = hang
    call = asyncio.create_task(world.edge.call(FN))
    await asyncio.sleep(1)
    free = world.slots.free
    await world.scaling.scale(FN, 0)
    await asyncio.sleep(10)
    assert world.slots.free == free
    call.cancel()
    await asyncio.sleep(5)
    assert world.slots.free == free + 1


async def test_a_slot_given_to_a_held_call_is_kept_until_the_call_can_arrive(world: World) -> None:
    await world.deploy()
    slot = await world.fleet.wakes.wake(FN)
    await world.scaling.scale(FN, 0)
    await asyncio.sleep(0.15)  # the edge has the slot's name and has not connected yet
    assert {name for name, _ in await world.edge.servers()} == {slot}
    await world.settle()
    assert await world.edge.servers() == set()


async def test_a_route_that_the_edge_did_not_confirm_is_sent_again(world: World) -> None:
    await world.deploy()
    world.edge.fail["set_route"] = 1
    await world.edge.call(FN)
    world.edge.restart()
    await world.settle()


async def test_slots_are_returned_only_when_the_edge_is_reachable_again(world: World) -> None:
    await world.deploy()
    await world.edge.call(FN)
    world.edge.reachable = False
    with pytest.raises(EdgeUnavailable):
        await world.edge.load(world.awake().slot)
    scaling = asyncio.create_task(world.scaling.scale(FN, 0))  # waits until the edge confirms the route
    await asyncio.sleep(100)
    assert world.slots.free == world.slots.size - 1
    world.edge.reachable = True
    world.edge.restart()
    await scaling
    await world.settle()
    assert world.slots.free == world.slots.size


async def test_an_instance_that_starts_while_its_function_falls_asleep_is_stopped(world: World) -> None:
    await world.deploy(window="1s")
    await world.edge.call(FN)
    world.node.start_delay = 10.0
    await world.scaling.scale(FN, 2)
    await asyncio.sleep(5)
    await world.settle()
    assert world.asleep()
    assert await world.running() == []


async def test_a_start_overtaken_by_another_leaves_no_instance_behind(world: World) -> None:
    await world.deploy()
    world.node.start_delay = 5.0
    first = asyncio.create_task(world.edge.call(FN))
    await asyncio.sleep(1)
    await world.scaling.scale(FN, 0)
    second = asyncio.create_task(world.edge.call(FN))
    await asyncio.gather(first, second)
    await world.settle()
    assert len(await world.running()) == 1
    assert world.slots.free == world.slots.size - 1
