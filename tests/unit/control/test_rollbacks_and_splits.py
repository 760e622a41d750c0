"""Rolling back, and splitting traffic among revisions, on virtual time."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from typing import Any

import pytest
from control_world import CRASH, DIGEST, FN, IMAGE, World, serving

from rescoldo.model.errors import InvalidInput, NotFound, RolloutFailed, StoreError
from rescoldo.model.function import Function, FunctionSpec
from rescoldo.model.names import RouteKey, revision_key

pytestmark = pytest.mark.looptime



async def calls(world: World, count: int = 200) -> Counter[int]:
    """The number of calls that each revision answers."""
    return Counter([serving(world, await world.edge.call(FN)) for _ in range(count)])


async def states(world: World) -> list[tuple[int, str, int]]:
    """Number, state and share of each revision."""
    return [(one.revision.number, one.state, one.traffic) for one in await world.revisions.revisions(FN)]


async def two_revisions(world: World, **options: str) -> None:
    for version in ("one", "two"):
        await world.deploy(version=version, **options)  # type: ignore[arg-type]


# -- rolling back


async def test_a_rollback_is_a_new_revision_with_deployment_and_bundle_of_the_old_one(world: World) -> None:
    await world.deploy(version="one")
    await world.add_bundle(IMAGE, "b" * 64)
    again = await world.restart_controller()
    await again.deploy(version="two")
    assert await again.deployments.roll_back(FN, None) == 3
    function = again.fleet.entries[FN].function
    assert (function.revision, function.spec.env_vars["VERSION"], function.digest) == (3, "one", DIGEST)
    assert serving(again, await again.edge.call(FN)) == 3
    await again.settle()
    await again.close()


async def test_a_rollback_skips_failed_revisions(world: World) -> None:
    await two_revisions(world)
    world.node.fail[FN] = deque([CRASH])
    with pytest.raises(RolloutFailed):
        await world.deploy(version="three")
    assert await world.deployments.roll_back(FN, None) == 4
    assert world.fleet.entries[FN].function.spec.env_vars["VERSION"] == "one"


async def test_a_rollback_that_does_not_start_changes_nothing(world: World) -> None:
    await two_revisions(world)
    world.node.fail[FN] = deque([CRASH])
    with pytest.raises(RolloutFailed, match=r"revision 3 of fn.openfaas-fn did not start"):
        await world.deployments.roll_back(FN, 1)
    assert await states(world) == [(3, "failed", 0), (2, "serving", 100), (1, "kept", 0)]
    assert serving(world, await world.edge.call(FN)) == 2
    await world.settle()


@pytest.mark.parametrize(
    ("number", "said"),
    [(9, "revision 9 of fn.openfaas-fn is not kept; .* rescoldo revisions fn"), (3, "did not start when it was dep")],
)
async def test_a_rollback_to_a_failed_or_unknown_revision_is_refused(world: World, number: int, said: str) -> None:
    await two_revisions(world)
    world.node.fail[FN] = deque([CRASH])
    with pytest.raises(RolloutFailed):
        await world.deploy(version="three")
    with pytest.raises(InvalidInput, match=said):
        await world.deployments.roll_back(FN, number)


async def test_there_is_no_rollback_from_a_first_revision(world: World) -> None:
    await world.deploy()
    with pytest.raises(InvalidInput, match="no revision before 1"):
        await world.deployments.roll_back(FN, None)
    with pytest.raises(NotFound):
        await world.deployments.roll_back(RouteKey("nobody.openfaas-fn"), None)  # type: ignore[arg-type]


async def test_rolling_back_to_the_current_revision_changes_nothing(world: World) -> None:
    await two_revisions(world)
    assert await world.deployments.roll_back(FN, 2) == 2
    assert len(world.node.started) == 1


async def test_a_revision_whose_secret_is_gone_cannot_be_rolled_back_to(world: World) -> None:
    await world.function_secrets.save_secret("openfaas-fn", "key", b"x", must_exist=False)
    await world.deployments.deploy(FunctionSpec("fn", IMAGE, secrets=("key",)), must_exist=False, start=False)
    await world.deploy()
    await world.function_secrets.delete_secret("openfaas-fn", "key")
    with pytest.raises(InvalidInput, match="has no secret key"):
        await world.deployments.roll_back(FN, 1)


async def test_the_platform_keeps_as_many_revisions_as_its_setting_says() -> None:
    world = await World.make(kept_revisions=3)
    for _ in range(5):
        await world.deploy()
    assert await states(world) == [(5, "serving", 100), (4, "kept", 0), (3, "kept", 0)]
    await world.close()


# -- traffic


async def test_calls_are_split_by_percent_and_each_revision_has_its_own_instances(world: World) -> None:
    await two_revisions(world)
    await world.traffic.split(FN, {1: 30, 2: 70})
    seen = await calls(world, 1000)
    assert seen.keys() == {1, 2}
    assert abs(seen[1] - 300) < 5 * (1000 * 0.3 * 0.7) ** 0.5, "the split is more than five sigma off"
    assert await states(world) == [(2, "serving", 70), (1, "serving", 30)]
    await world.settle()


async def test_each_revision_of_a_split_sleeps_and_wakes_on_its_own(world: World) -> None:
    await world.deploy(version="one", window="5s")
    await world.deploy(version="two", window="60s")
    await world.traffic.split(FN, {1: 50, 2: 50})
    old = world.fleet.entries[revision_key(FN, 1)]
    await calls(world)
    await world.settle(15)
    assert old.awake is None and not world.asleep()
    assert (await calls(world)).keys() == {1, 2}
    await world.settle(200)
    assert old.awake is None and world.asleep()


async def test_each_revision_of_a_split_has_the_limits_of_its_own_deployment(world: World) -> None:
    await world.deploy(notes={"rescoldo.dev/max-queue": "3"}, exec_timeout="2s")
    await world.deploy(notes={"rescoldo.dev/max-queue": "7"}, exec_timeout="4s")
    await world.traffic.split(FN, {1: 50, 2: 50})
    routes = world.edge.routes
    assert {key: route.max_queue for key, route in routes.items()} == {FN: 7, revision_key(FN, 1): 3}
    assert {key: route.response_timeout for key, route in routes.items()} == {FN: 9.0, revision_key(FN, 1): 7.0}


async def test_a_split_is_counted_as_one_function(world: World) -> None:
    await two_revisions(world)
    await world.traffic.split(FN, {1: 50, 2: 50})
    await calls(world)
    [status] = world.statuses.functions("openfaas-fn")
    assert (status.available, status.replicas) == (2, 2)
    assert (await world.overview.report())["functions"] == 1
    assert (await world.overview.report())["instances"] == 2
    await world.scaling.scale(FN, 0)
    assert (await world.statuses.function(FN)).available == 0
    await world.settle()


async def test_a_split_and_its_instances_survive_a_restart_of_the_controller(world: World) -> None:
    await two_revisions(world)
    await world.traffic.split(FN, {1: 50, 2: 50})
    await calls(world)
    before = await world.running()
    again = await world.restart_controller()
    assert await states(again) == [(2, "serving", 50), (1, "serving", 50)]
    assert (await calls(again)).keys() == {1, 2}
    assert sorted(await again.running()) == sorted(before)
    await again.settle()
    await again.close()


async def test_a_split_survives_a_restart_of_the_edge(world: World) -> None:
    await two_revisions(world)
    await world.traffic.split(FN, {1: 50, 2: 50})
    world.edge.restart()
    await asyncio.sleep(1.0)
    assert (await calls(world)).keys() == {1, 2}
    await world.settle()


async def test_all_calls_may_go_to_a_past_revision_and_back(world: World) -> None:
    await two_revisions(world)
    await world.traffic.split(FN, {1: 100})
    assert (await calls(world)).keys() == {1}
    assert await states(world) == [(2, "kept", 0), (1, "serving", 100)]
    await world.traffic.split(FN, {2: 100})
    assert (await calls(world)).keys() == {2}
    assert world.fleet.entries.keys() == {FN}
    await world.settle()


async def test_a_deployment_ends_a_split_once_it_has_started(world: World) -> None:
    await two_revisions(world)
    await world.traffic.split(FN, {1: 50, 2: 50})
    world.node.fail[FN] = deque([CRASH])
    with pytest.raises(RolloutFailed):
        await world.deploy(version="three")
    assert (await calls(world)).keys() == {1, 2}
    await world.deploy(version="four")
    assert (await calls(world)).keys() == {4}
    await world.settle()
    assert len(await world.running()) == 1


async def test_deploying_the_current_revision_again_ends_a_split(world: World) -> None:
    await two_revisions(world)
    await world.traffic.split(FN, {1: 50, 2: 50})
    await world.deploy(version="two")
    assert (await calls(world)).keys() == {2}
    await world.settle()


async def test_calls_in_flight_finish_on_the_revision_that_loses_its_share(world: World) -> None:
    await two_revisions(world)
    await world.traffic.split(FN, {1: 100})
    finish = world.hold_calls()
    call = asyncio.create_task(world.edge.call(FN))
    await asyncio.sleep(1.0)
    await world.traffic.split(FN, {2: 100})
    await asyncio.sleep(5.0)
    finish.set()
    assert serving(world, await call) == 1
    await world.settle()


async def test_the_current_revision_serves_a_call_held_for_one_that_lost_its_share(world: World) -> None:
    await two_revisions(world)
    assert await world.fleet.wakes.wake(revision_key(FN, 1)) == world.awake().slot
    with pytest.raises(NotFound):
        await world.fleet.wakes.wake(RouteKey("nobody.openfaas-fn/1"))


async def test_a_past_revision_that_no_longer_starts_gets_no_share(world: World) -> None:
    await two_revisions(world)
    world.node.fail[FN] = deque([CRASH])
    with pytest.raises(RolloutFailed, match=r"revision 1 of fn.openfaas-fn does not start; the traffic is unchanged"):
        await world.traffic.split(FN, {1: 50, 2: 50})
    assert (await calls(world)).keys() == {2}
    assert world.fleet.entries.keys() == {FN}
    await world.settle()


async def test_a_split_that_cannot_be_saved_is_not_applied(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await two_revisions(world)

    async def refuse(function: Function, **options: Any) -> None:
        raise StoreError("the disk is full")

    monkeypatch.setattr(world.store, "save_function", refuse)
    with pytest.raises(StoreError):
        await world.traffic.split(FN, {1: 50, 2: 50})
    assert (await calls(world)).keys() == {2}
    await world.settle()


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        ({1: 50, 2: 51}, "101 % together; they must be 100"),
        ({}, "0 % together"),
        ({1: -10, 2: 110}, "is not allowed"),
        ({7: 100}, "revision 7 of fn.openfaas-fn is not kept"),
        (dict.fromkeys(range(100), 1), "at most 10"),
    ],
)
async def test_an_invalid_split_is_refused(world: World, shares: dict[int, int], said: str) -> None:
    await two_revisions(world)
    with pytest.raises(InvalidInput, match=said):
        await world.traffic.split(FN, shares)
    assert (await calls(world)).keys() == {2}


async def test_removing_a_function_removes_all_its_revisions(world: World) -> None:
    await two_revisions(world)
    await world.traffic.split(FN, {1: 50, 2: 50})
    await calls(world)
    await world.removals.remove(FN)
    with pytest.raises(NotFound):
        await world.edge.call(FN)
    assert world.fleet.entries == {}
    await world.settle()
    assert await world.running() == []


async def test_the_next_call_replaces_a_lost_instance_of_a_past_revision(world: World) -> None:
    await two_revisions(world)
    await world.traffic.split(FN, {1: 100})
    first = await world.edge.call(FN)
    world.lost(first)
    await asyncio.sleep(1.0)
    second = await world.edge.call(FN)
    assert second != first and serving(world, second) == 1
    await world.settle()


async def test_a_changed_secret_reaches_all_serving_revisions(world: World) -> None:
    await world.function_secrets.save_secret("openfaas-fn", "key", b"old", must_exist=False)
    for version in ("1", "2"):
        spec = FunctionSpec("fn", IMAGE, secrets=("key",), env_vars={"VERSION": version})
        await world.deployments.deploy(spec, must_exist=False, start=version == "2")
    await world.traffic.split(FN, {1: 50, 2: 50})
    await calls(world)
    before = set(await world.running())
    await world.function_secrets.save_secret("openfaas-fn", "key", b"new", must_exist=True)
    await world.settle(5)
    assert before.isdisjoint(await world.running())
    again = await world.restart_controller()
    assert (await calls(again)).keys() == {1, 2}
    assert len(again.node.started) == len(world.node.started), "an instance was not adopted"
    await again.settle()
    await again.close()


async def test_past_revisions_that_must_not_sleep_are_kept_awake(world: World) -> None:
    await world.deploy(version="one", minimum=1)
    await world.deploy(version="two")
    await world.traffic.split(FN, {1: 50, 2: 50})
    again = await world.restart_controller()
    again.lost(next(iter(again.fleet.entries[revision_key(FN, 1)].awake.servers)))  # type: ignore[union-attr]
    await again.settle()
    assert again.fleet.entries[revision_key(FN, 1)].awake is not None
    await again.close()
