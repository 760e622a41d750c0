"""The scaler over the fakes: calls go through the fake edge, whose instances take time."""

from __future__ import annotations

import asyncio
from collections import deque

import pytest
from control_world import FN, World

from rescoldo.control.fleet.scaler import HELPLESS_SECONDS, TOLD_SECONDS
from rescoldo.model.errors import StartFailed, StoreError
from rescoldo.model.explanation import Explanation
from rescoldo.model.names import FunctionId, InstanceId, SlotName, revision_key
from rescoldo.model.scaling import ScalingDefaults
from rescoldo.node.protocol import InstanceUsage

pytestmark = pytest.mark.looptime


async def takes(world: World, seconds: float) -> None:
    """Every call takes `seconds`."""

    async def work(function: FunctionId, instance: InstanceId) -> None:
        await asyncio.sleep(seconds)

    world.edge.work = work


async def load(world: World, rate: float, seconds: float) -> list[asyncio.Task[InstanceId]]:
    """Calls of FN, `rate` a second, sent whether earlier ones were answered or not."""
    calls = []
    for _ in range(round(rate * seconds)):
        calls.append(asyncio.create_task(world.edge.call(FN)))
        await asyncio.sleep(1 / rate)
    return calls


async def test_traffic_gets_as_many_instances_as_it_needs_and_loses_them_when_it_ends(world: World) -> None:
    await world.deploy(window="300s")
    await takes(world, 0.5)
    calls = await load(world, rate=60, seconds=30)  # 30 at once, 10 x 70 % each
    assert len(world.instances()) == 5
    assert not [call.exception() for call in calls if call.done() and call.exception()]
    await asyncio.gather(*calls)
    await world.until(lambda: len(world.instances()) == 1, 150)
    await world.settle(5)


async def test_the_certifiers_scaling_passes_with_openfaas_rule() -> None:
    """10 requests a second: 2 replicas within a minute, 1 again within the next."""
    world = await World.make(scaling=ScalingDefaults(openfaas_rule=True))
    await world.deploy(minimum=1, **{"com.openfaas.scale.max": "2"})
    await world.until(lambda: world.fleet.entries[FN].awake is not None)
    calls = asyncio.create_task(load(world, rate=10, seconds=60))
    await world.until(lambda: len(world.instances()) == 2, 30)
    await calls
    await world.until(lambda: len(world.instances()) == 1, 30)
    steps = [(step.before, step.after, step.reason) for step in (await why(world)).steps]
    assert steps[1] == (1, 2, "more than 5 requests a second: OpenFaaS's rule")
    await world.settle(5)
    await world.close()


async def test_without_the_rule_quick_calls_need_no_second_instance(world: World) -> None:
    await world.deploy(minimum=1, **{"com.openfaas.scale.max": "2"})
    await load(world, rate=10, seconds=60)
    assert len(world.instances()) == 1


async def test_a_function_without_calls_is_not_sampled(world: World) -> None:
    await world.deploy()
    await world.edge.call(FN)
    await world.settle(2)
    scale = world.awake().scale
    assert scale is not None
    looked_at = scale.looked_at
    await asyncio.sleep(60)
    assert scale.looked_at == looked_at
    await world.edge.call(FN)
    await asyncio.sleep(1)
    assert scale.looked_at > looked_at


async def test_a_report_of_a_full_slot_scales_at_once(world: World) -> None:
    await world.deploy()
    await takes(world, 1000)
    calls = [asyncio.create_task(world.edge.call(FN)) for _ in range(40)]
    await world.until(lambda: world.fleet.entries[FN].awake)
    await asyncio.sleep(0)
    quiet = await world.scaler.full(world.awake().slot)
    assert (quiet, world.awake().wanted) == (TOLD_SECONDS, 2)
    for call in calls:
        call.cancel()


async def test_the_edge_reports_a_full_slot_less_often_if_it_gets_no_more_instances(world: World) -> None:
    await world.deploy(**{"com.openfaas.scale.max": "1"})
    await takes(world, 1000)
    calls = [asyncio.create_task(world.edge.call(FN)) for _ in range(40)]
    await world.until(lambda: world.fleet.entries[FN].awake)
    assert await world.scaler.full(world.awake().slot) == HELPLESS_SECONDS
    assert await world.scaler.full(SlotName("s7")) == HELPLESS_SECONDS  # a free slot
    assert len(world.instances()) == 1
    for call in calls:
        call.cancel()


async def test_instances_start_in_parallel(world: World) -> None:
    await world.deploy()
    await world.edge.call(FN)
    world.node.start_delay = 1.0
    await world.scaling.scale(FN, 9)
    await asyncio.sleep(1.5)
    assert len(world.instances()) == 9


async def test_a_new_instance_gets_calls_only_when_it_is_ready(world: World) -> None:
    await world.deploy(concurrency=1)
    await world.edge.call(FN)
    world.node.start_delay = 5.0
    await world.scaling.scale(FN, 2)
    await asyncio.sleep(1)
    assert {await world.edge.call(FN) for _ in range(5)} == set(world.instances())
    assert len(await world.edge.servers()) == 1
    await world.settle(10)
    assert len(await world.edge.servers()) == 2


async def test_the_least_loaded_instances_are_drained_and_finish_their_calls(world: World) -> None:
    await world.deploy()
    await takes(world, 20.0)
    await world.edge.call(FN)
    await world.scaling.scale(FN, 3)
    await world.settle(1)
    calls = [asyncio.create_task(world.edge.call(FN)) for _ in range(7)]  # 3, 2, 2
    await asyncio.sleep(0.1)
    busiest = max((await world.edge.server_loads(world.awake().slot)).items(), key=lambda item: item[1])[0]
    await world.scaling.scale(FN, 1)
    await asyncio.sleep(0.1)
    assert world.instances() == [busiest]
    assert len(await world.running()) == 3, "two instances still have calls"
    assert len(set(await asyncio.gather(*calls))) == 3
    await world.settle(1)


async def test_requested_replicas_are_a_minimum_until_the_function_sleeps(world: World) -> None:
    await world.deploy()
    await world.edge.call(FN)
    await world.scaling.scale(FN, 4)
    await world.settle(200)
    assert len(world.instances()) == 4
    await world.scaling.scale(FN, 0)
    await world.edge.call(FN)
    await world.settle(1)
    assert len(world.instances()) == 1


async def test_the_next_controller_keeps_requested_replicas_even_if_instances_were_lost(world: World) -> None:
    await world.deploy()
    await world.scaling.scale(FN, 4)
    await world.settle(5)
    again = await world.restart_controller()
    await again.settle(200)
    assert len(again.instances()) == 4
    await again.tasks.close()  # the controller is killed, and some instances with it
    for instance in again.instances()[:3]:
        again.node.lose(instance)
    last = await again.restart_controller()
    await last.settle(5)
    assert len(last.instances()) == 4
    await last.close()


async def test_requested_replicas_start_with_the_platform_and_end_with_sleep(world: World) -> None:
    await world.deploy(window="30s")
    await world.deploy("other")
    await world.scaling.scale(FN, 3)
    await world.settle(5)
    again = await restart_platform(world)
    await again.settle(5)
    assert len(again.instances()) == 3 and again.asleep("other")
    await again.settle(60)
    assert again.asleep() and await again.store.requested_replicas() == {}
    last = await restart_platform(again)
    await last.settle(5)
    assert last.asleep()
    await last.close()


async def restart_platform(world: World) -> World:
    """Stop everything and start it again; only the store stays."""
    world.node._running.clear()
    world.edge.restart()
    return await world.restart_controller()


async def test_requested_replicas_are_restored_without_a_call_when_all_instances_are_lost(world: World) -> None:
    await world.deploy()
    await world.scaling.scale(FN, 3)
    await world.settle(5)
    for instance in world.instances():
        world.lost(instance)
    await world.settle(5)
    assert len(world.instances()) == 3


async def test_requested_replicas_that_cannot_be_saved_are_not_applied(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.deploy()
    await world.scaling.scale(FN, 2)

    async def refuse(function: FunctionId, replicas: int) -> None:
        raise StoreError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(world.store, "save_requested_replicas", refuse)
        for number in (5, 0):
            with pytest.raises(StoreError):
                await world.scaling.scale(FN, number)
        await world.settle(5)
        assert len(world.instances()) == 2
    await world.scaling.scale(FN, 0)
    assert await world.store.requested_replicas() == {}


async def test_a_function_sleeps_even_if_its_requested_replicas_cannot_be_cleared(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.deploy(window="5s")
    await world.scaling.scale(FN, 2)

    async def refuse(function: FunctionId, replicas: int) -> None:
        raise StoreError("the disk is full")

    monkeypatch.setattr(world.store, "save_requested_replicas", refuse)
    await world.settle(20)
    assert world.asleep()
    await world.edge.call(FN)
    await world.settle(1)
    assert len(world.instances()) == 1


async def test_a_new_function_does_not_inherit_the_requested_replicas_of_a_removed_one(world: World) -> None:
    await world.deploy()
    await world.scaling.scale(FN, 3)
    await world.removals.remove(FN)
    await world.deploy()
    assert await world.store.requested_replicas() == {}
    await world.edge.call(FN)
    await world.settle(5)
    assert len(world.instances()) == 1


async def test_a_new_controller_starts_the_missing_instances_of_a_fixed_number(world: World) -> None:
    await world.deploy(minimum=3, **{"com.openfaas.scale.max": "3"})
    await world.settle(5)
    await world.tasks.close()
    world.node.lose(world.instances()[0])
    again = await world.restart_controller()
    await again.settle(5)
    assert len(again.instances()) == 3
    await again.close()


async def test_requested_replicas_may_exceed_the_maximum(world: World) -> None:
    await world.deploy(**{"com.openfaas.scale.max": "2"})
    await world.scaling.scale(FN, 5)
    await world.edge.call(FN)
    await world.settle(10)
    assert len(world.instances()) == 5


async def test_the_first_wake_starts_the_initial_scale_and_later_ones_the_activation_scale(world: World) -> None:
    await world.deploy(notes={"autoscaling.knative.dev/initial-scale": "4", "rescoldo.dev/activation-scale": "3"})
    await world.edge.call(FN)
    await world.settle(1)
    assert len(world.instances()) == 4
    await world.scaling.scale(FN, 0)
    await world.edge.call(FN)
    await world.settle(1)
    assert len(world.instances()) == 3


async def test_if_more_instances_do_not_start_they_are_tried_one_at_a_time(world: World) -> None:
    await world.deploy()
    await world.edge.call(FN)
    world.node.fail[FN] = deque([StartFailed("no")] * 14)
    begun = len(world.node.started)
    await world.scaling.scale(FN, 9)
    await asyncio.sleep(20)
    assert 8 < len(world.node.started) - begun < 16
    assert len(world.instances()) == 1
    await world.settle(300)
    assert len(world.instances()) == 9


async def test_an_update_while_a_function_scales_leaves_nothing_behind(world: World) -> None:
    await world.deploy()
    await world.edge.call(FN)
    world.node.start_delay = 1.0
    await world.scaling.scale(FN, 6)
    await asyncio.sleep(0.5)
    await world.deploy()
    await world.edge.call(FN)
    await world.settle(60)
    assert len(world.instances()) == 6  # requested replicas hold for the new revision, too


async def test_scaling_by_cpu_counts_the_cpu_time_of_the_instances(world: World) -> None:
    await world.deploy(**{"com.openfaas.scale.type": "cpu", "com.openfaas.scale.target": "100"})
    await takes(world, 0.2)

    async def usage(function: FunctionId) -> list[InstanceUsage]:
        now = asyncio.get_running_loop().time()
        return [InstanceUsage(instance, 0, now * 0.1) for instance in world.instances()]  # 100 millicores each

    world.node.usage = usage  # type: ignore[method-assign]
    calls = await load(world, rate=10, seconds=70)
    assert len(world.instances()) > 3
    await asyncio.gather(*calls)


async def test_short_calls_scale_the_current_revision_of_a_split_like_the_others(world: World) -> None:
    for version in ("one", "two"):
        await world.deploy(version=version, **{"com.openfaas.scale.type": "rps", "com.openfaas.scale.target": "10"})
    await world.traffic.split(FN, {1: 50, 2: 50})
    await world.settle(5)  # nothing is in flight when the scaler samples
    calls = await load(world, rate=60, seconds=70)
    old = world.fleet.entries[revision_key(FN, 1)].awake
    assert old is not None
    assert (len(old.servers), len(world.instances())) == (4, 4)  # 30 a second each, 10 x 90 %: ceil(3.3)
    await asyncio.gather(*calls)


async def test_scaling_by_cpu_counts_each_revision_of_a_split_separately(world: World) -> None:
    for version in ("one", "two"):
        await world.deploy(version=version, **{"com.openfaas.scale.type": "cpu", "com.openfaas.scale.target": "100"})
    await world.traffic.split(FN, {1: 50, 2: 50})
    await takes(world, 0.2)

    async def usage(function: FunctionId) -> list[InstanceUsage]:
        """Instances of the first revision are busy, those of the second nearly idle."""
        now = asyncio.get_running_loop().time()
        busy = {launch.instance for launch in world.node.started if launch.revision == 1}
        return [InstanceUsage(one, 0, now * (0.1 if one in busy else 0.01)) for one in await world.running()]

    world.node.usage = usage  # type: ignore[method-assign]
    calls = await load(world, rate=10, seconds=70)
    old = world.fleet.entries[revision_key(FN, 1)].awake
    assert old is not None and len(old.servers) > 3
    assert len(world.instances()) == 1
    await asyncio.gather(*calls)


# -- the reasons


async def why(world: World) -> Explanation:
    found = (await world.statuses.function(FN, why=True)).why
    assert found is not None
    return found


async def test_why_says_what_puts_a_function_to_sleep_and_what_wakes_it(world: World) -> None:
    await world.deploy(window="10s", minimum=2, **{"com.openfaas.scale.zero": "true"})
    assert (await why(world)).sleep == "asleep; the next call wakes it with 2 instances"
    await world.edge.call(FN)
    await asyncio.sleep(4)
    assert (await why(world)).sleep == "in 6.0 s, unless it is called"
    await asyncio.sleep(20)
    found = await why(world)
    steps = [(step.before, step.after, step.reason) for step in found.steps]
    assert steps == [(0, 2, "called while asleep"), (2, 0, "idle for 10 s")]
    assert found.steps[0].ago == pytest.approx(24, abs=0.2)


async def test_a_busy_function_sleeps_after_its_last_request(world: World) -> None:
    await world.deploy(window="10s")
    await takes(world, 60)
    call = asyncio.create_task(world.edge.call(FN))
    await asyncio.sleep(30)
    assert (await why(world)).sleep == "10 s after its last request ends"
    await call


async def test_why_says_that_a_function_must_not_sleep_or_does_not_start(world: World) -> None:
    await world.deploy(minimum=1)
    await world.until(lambda: not world.asleep())
    await world.settle(1)
    assert (await why(world)).sleep == "never: it keeps at least one instance awake"
    await world.deploy(rollout="immediate")
    world.node.fail[FN] = deque([StartFailed("no such module\nline 2")])
    with pytest.raises(StartFailed):
        await world.edge.call(FN)
    told = "asleep; its start failed, and the next attempt is allowed in 0.2 s: no such module"
    assert (await why(world)).sleep == told


async def test_why_has_the_last_decision_and_the_target(world: World) -> None:
    await world.deploy(notes={"rescoldo.dev/max-scale": "4"})
    await takes(world, 0.5)
    calls = await load(world, rate=100, seconds=10)
    found = await why(world)
    assert (found.wanted, found.running, found.minimum, found.maximum) == (4, 4, 1, 4)
    assert (found.metric, found.target, found.utilization) == ("concurrency", 10.0, 0.7)
    assert found.look is not None
    assert (found.look.bound, found.look.panicking) == ("the maximum: 4", True)
    assert found.look.panic > 30
    await asyncio.gather(*calls)


async def test_scaling_metrics_cover_awake_functions_only(world: World) -> None:
    await world.deploy()
    assert b"rescoldo_instances_desired{" not in await world.overview.metrics()
    await world.scaling.scale(FN, 3)
    await world.settle(5)
    text = (await world.overview.metrics()).decode()
    labels = '{function_name="fn.openfaas-fn",metric="concurrency"}'
    for line in (f"rescoldo_instances_desired{labels} 3.0", f"rescoldo_instances_ready{labels} 3.0",
                 f"rescoldo_load_target{labels} 7.0", f"rescoldo_panic_mode{labels} 1.0"):  # fmt: skip
        assert line in text
