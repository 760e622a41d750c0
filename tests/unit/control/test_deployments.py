"""A new revision is started and checked before it takes traffic, on virtual time."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import replace
from typing import Any

import pytest
from control_world import CRASH, DIGEST, FN, IMAGE, World, now, serving

from rescoldo.model.errors import (
    Busy,
    Conflict,
    InvalidInput,
    NotFound,
    RolloutFailed,
    StartFailed,
    StartTimeout,
    StoreError,
)
from rescoldo.model.function import Function, FunctionSpec
from rescoldo.model.names import function_id

pytestmark = pytest.mark.looptime



def launched(world: World) -> list[int]:
    return [launch.revision for launch in world.node.started]


async def kept(world: World) -> list[tuple[int, str]]:
    """Numbers of the past revisions, and why they failed."""
    return [(past.number, past.failure) for past in await world.store.revisions(FN)]


async def until_started(world: World, revision: int) -> None:
    await world.until(lambda: revision in launched(world))


# -- checked


async def test_an_immediate_first_deployment_starts_nothing(world: World) -> None:
    await world.deploy(first="immediate")
    await world.deploy("other", first="checked", rollout="immediate")
    await world.settle()
    assert world.node.started == []


async def test_an_update_is_started_before_it_serves_and_the_old_revision_serves_meanwhile(world: World) -> None:
    await world.deploy()
    await world.edge.call(FN)
    world.node.start_delay = 3.0
    update = asyncio.create_task(world.deploy())
    await until_started(world, 2)
    assert serving(world, await world.edge.call(FN)) == 1
    await update
    assert now() == pytest.approx(3.0, abs=0.1)
    assert serving(world, await world.edge.call(FN)) == 2
    assert now() == pytest.approx(3.0, abs=0.1), "a call waited for a start"
    await world.settle()
    assert launched(world) == [1, 2]


async def test_an_update_of_a_sleeping_function_is_checked_and_its_instance_serves_the_next_call(world: World) -> None:
    await world.deploy(window="5s")
    await world.deploy(window="5s")
    assert serving(world, await world.edge.call(FN)) == 2
    assert launched(world) == [2]
    await world.settle()
    assert world.asleep()


async def test_a_checked_instance_without_calls_sleeps_after_its_window(world: World) -> None:
    await world.deploy(window="5s")
    await world.deploy(window="5s")
    assert not world.asleep()
    await world.settle(7.0)
    assert world.asleep()


@pytest.mark.parametrize("error", [CRASH, StartTimeout("it was not ready after 15 s\nlast words")])
async def test_a_revision_that_does_not_start_never_takes_traffic(world: World, error: Exception) -> None:
    await world.deploy()
    first = await world.edge.call(FN)
    world.node.fail[FN] = deque([error])  # type: ignore[list-item]
    with pytest.raises(RolloutFailed) as caught:
        await world.deploy()
    assert caught.value.status == 400
    assert "revision 2 of fn.openfaas-fn did not start" in caught.value.message
    assert "revision 1 keeps serving" in caught.value.message
    assert str(error) in caught.value.message
    assert await world.edge.call(FN) == first
    assert await kept(world) == [(2, str(error))]
    assert [function.revision for function in await world.store.functions()] == [1]
    await world.settle()


async def test_the_number_of_a_failed_revision_is_not_used_again(world: World) -> None:
    await world.deploy()
    world.node.fail[FN] = deque([CRASH, CRASH])
    for _ in range(2):
        with pytest.raises(RolloutFailed):
            await world.deploy()
    await world.deploy()
    assert world.fleet.entries[FN].function.revision == 4
    assert [number for number, _ in await kept(world)] == [3, 2, 1]


async def test_a_lack_of_capacity_does_not_fail_the_revision(world: World) -> None:
    await world.deploy()
    world.node.fail[FN] = deque([Busy("the node is full")])
    with pytest.raises(Busy, match="full"):
        await world.deploy()
    assert await kept(world) == []
    assert world.fleet.entries[FN].function.revision == 1
    await world.settle()


async def test_all_instances_are_replaced_before_the_old_revision_drains(world: World) -> None:
    await world.deploy()
    await world.scaling.scale(FN, 4)
    await world.settle(5.0)
    before = set(world.instances())
    world.node.start_delay = 2.0
    begun = now()
    await world.deploy()
    assert len(world.instances()) == 4
    assert before.isdisjoint(world.instances())
    assert now() - begun == pytest.approx(4.0, abs=0.2), "the first is checked, the others start in parallel"
    await world.settle()


async def test_a_lack_of_capacity_for_more_instances_does_not_fail_a_started_revision(world: World) -> None:
    await world.deploy()
    await world.scaling.scale(FN, 3)
    await world.settle(5.0)
    update = asyncio.create_task(world.deploy())
    world.node.start_delay = 1.0
    await until_started(world, 2)
    world.node.fail[FN] = deque()
    await world.until(lambda: launched(world).count(2) == 3)
    world.node.fail[FN] = deque([Busy("full"), Busy("full")])
    await update
    assert len(world.instances()) == 1
    await world.settle()
    assert len(world.instances()) == 3


async def test_an_instance_that_ends_right_after_it_was_ready_fails_the_check(world: World) -> None:
    await world.deploy()
    await world.scaling.scale(FN, 2)
    await world.settle(5.0)
    first = set(world.instances())
    world.node.start_delay = 2.0
    update = asyncio.create_task(world.deploy())
    await world.until(lambda: launched(world).count(2) == 2)
    world.node.fail[FN] = deque([CRASH])
    world.lost(world.node.started[-2].instance)
    with pytest.raises(RolloutFailed, match="ended right after it was ready"):
        await update
    assert set(world.instances()) == first
    await world.settle()


def hold_saving(world: World, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Delay saving of a checked deployment until the event is set."""
    go_on, save = asyncio.Event(), world.store.save_function

    async def save_later(function: Function, **options: Any) -> None:
        await go_on.wait()
        await save(function, **options)

    monkeypatch.setattr(world.store, "save_function", save_later)
    return go_on


async def test_a_checked_instance_lost_before_it_takes_over_leaves_no_route_without_a_server(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.deploy()
    await world.edge.call(FN)
    go_on = hold_saving(world, monkeypatch)
    update = asyncio.create_task(world.deploy())
    await until_started(world, 2)
    await asyncio.sleep(1.0)
    world.lost(world.node.started[-1].instance)
    await asyncio.sleep(1.0)
    go_on.set()
    await update
    assert serving(world, await world.edge.call(FN)) == 2
    await world.settle()


async def test_one_of_several_checked_instances_lost_before_they_take_over_is_replaced(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.deploy()
    await world.scaling.scale(FN, 3)
    await world.settle(5.0)
    go_on = hold_saving(world, monkeypatch)
    update = asyncio.create_task(world.deploy())
    await world.until(lambda: launched(world).count(2) == 3)
    await asyncio.sleep(1.0)
    lost = world.node.started[-1].instance
    world.lost(lost)
    go_on.set()
    await update
    await world.settle()
    assert len(world.instances()) == 3 and lost not in world.instances()


async def test_a_checked_instance_unknown_to_a_new_node_does_not_take_over(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.deploy()
    go_on = hold_saving(world, monkeypatch)
    update = asyncio.create_task(world.deploy())
    await until_started(world, 2)
    await asyncio.sleep(1.0)
    world.node.reachable = False
    world.node._running.clear()
    world.node.reachable = True
    await asyncio.sleep(2.0)
    go_on.set()
    await update
    assert serving(world, await world.edge.call(FN)) == 2
    await world.settle()


async def test_calls_in_flight_finish_on_the_old_revision(world: World) -> None:
    await world.deploy()
    finish = world.hold_calls()
    old = asyncio.create_task(world.edge.call(FN))
    await asyncio.sleep(1.0)
    await world.deploy()
    await asyncio.sleep(5.0)
    finish.set()
    assert serving(world, await old) == 1
    assert serving(world, await world.edge.call(FN)) == 2
    await world.settle()


async def test_calls_of_a_revision_that_is_still_waking_go_to_the_new_one(world: World) -> None:
    await world.deploy()
    world.node.start_delay = 4.0
    call = asyncio.create_task(world.edge.call(FN))
    await asyncio.sleep(0.5)
    world.node.start_delay = 1.0
    await world.deploy()
    assert serving(world, await call) == 2
    await world.settle()


# -- unchanged and immediate deployments


async def test_repeating_a_deployment_changes_nothing(world: World) -> None:
    await world.deploy(version="1")
    first = await world.edge.call(FN)
    await world.deploy(version="1")
    assert await world.edge.call(FN) == first
    assert launched(world) == [1]
    assert await kept(world) == []


@pytest.mark.parametrize("first", ["", "python index.py"])
async def test_the_two_command_lines_do_not_undo_each_other(world: World, first: str) -> None:
    """faas-cli sends fprocess of a Python template, and `rescoldo` does not."""
    for process in (first, "python index.py", "", "python3 index.py"):
        await world.deployments.deploy(FunctionSpec("fn", IMAGE, env_process=process), must_exist=False, start=False)
    found = (await world.statuses.function(FN)).function
    assert (found.revision, found.spec.env_process) == (1, "")
    await world.deployments.deploy(FunctionSpec("fn", IMAGE, env_process="./server"), must_exist=False, start=False)
    assert (await world.statuses.function(FN)).function.revision == 2


async def test_a_deployment_stored_by_an_older_version_counts_as_the_same(world: World) -> None:
    before = FunctionSpec("fn", IMAGE, env_process="python index.py")
    await world.store.save_function(Function(before, DIGEST, 1.0))
    after = await world.restart_controller()
    await after.deployments.deploy(replace(before, env_process=""), must_exist=True)
    assert (await after.statuses.function(FN)).function.revision == 1
    await after.close()


async def test_the_same_deployment_of_another_bundle_is_a_new_revision(world: World) -> None:
    await world.deploy(version="1")
    await world.add_bundle(IMAGE, "b" * 64)
    again = await world.restart_controller()
    await again.deploy(version="1")
    assert serving(again, await again.edge.call(FN)) == 2
    await again.close()


async def test_rollout_immediate_starts_nothing_and_sends_the_next_call_to_the_new_revision(world: World) -> None:
    await world.deploy()
    await world.edge.call(FN)
    world.node.fail[FN] = deque([CRASH])
    await world.deploy(rollout="immediate")
    with pytest.raises(StartFailed):
        await world.edge.call(FN)
    await world.settle()


async def test_an_unknown_rollout_is_refused(world: World) -> None:
    with pytest.raises(InvalidInput, match=r"rescoldo.dev/rollout: 'slow' .* checked or immediate"):
        await world.deploy(rollout="slow")


# -- concurrent changes


async def test_deployments_of_one_function_run_one_after_another_and_the_last_one_serves(world: World) -> None:
    await world.deploy()
    world.node.start_delay = 1.0
    await asyncio.gather(*(world.deploy() for _ in range(3)))
    assert now() == pytest.approx(3.0, abs=0.2)
    assert serving(world, await world.edge.call(FN)) == 4
    await world.settle()


async def test_a_rollout_does_not_delay_that_of_another_function(world: World) -> None:
    await world.function_secrets.save_secret("openfaas-fn", "key", b"x", must_exist=False)
    spec = FunctionSpec("slow", IMAGE, secrets=("key",))
    await world.deployments.deploy(spec, must_exist=False, start=False)
    world.node.start_delay = 10.0
    changed = FunctionSpec("slow", IMAGE, secrets=("key",), labels={"a": "b"})
    update = asyncio.create_task(world.deployments.deploy(changed, must_exist=True))
    await until_started(world, 2)
    await world.deployments.deploy(FunctionSpec("other", IMAGE, secrets=("key",)), must_exist=False, start=False)
    assert now() < 1.0
    await update


async def checking_with_secret(world: World) -> asyncio.Task[bool]:
    """Begin an update whose revision names the secret `key`; its instance is starting."""
    await world.function_secrets.save_secret("openfaas-fn", "key", b"old", must_exist=False)
    await world.deploy()
    world.node.start_delay = 1.0
    spec = FunctionSpec("fn", IMAGE, secrets=("key",))
    update = asyncio.create_task(world.deployments.deploy(spec, must_exist=True))
    await until_started(world, 2)
    return update


async def test_a_secret_cannot_be_removed_while_a_revision_that_names_it_is_checked(world: World) -> None:
    update = await checking_with_secret(world)
    with pytest.raises(Conflict, match="used by fn"):
        await world.function_secrets.delete_secret("openfaas-fn", "key")
    await update


async def test_a_secret_that_changes_while_a_revision_is_checked_reaches_it(world: World) -> None:
    update = await checking_with_secret(world)
    await world.function_secrets.save_secret("openfaas-fn", "key", b"new", must_exist=True)
    await update
    before, after = world.node.started
    assert (before.revision, after.revision, after.generation - before.generation) == (2, 2, 1)
    assert await world.edge.call(FN) == world.node.started[-1].instance
    await world.settle()


async def test_a_removal_cancels_a_rollout(world: World) -> None:
    await world.deploy()
    world.node.start_delay = 10.0
    updates = [asyncio.create_task(world.deploy()) for _ in range(2)]
    await until_started(world, 2)
    await world.removals.remove(FN)
    assert now() < 1.0
    for result in await asyncio.gather(*updates, return_exceptions=True):
        assert isinstance(result, Conflict)
    with pytest.raises(NotFound):
        await world.edge.call(FN)
    await world.settle()
    await world.deploy()
    assert await world.edge.call(FN)


async def test_a_revision_that_cannot_be_saved_does_not_serve(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.deploy()
    first = await world.edge.call(FN)

    async def refuse(function: Function, **options: Any) -> None:
        raise StoreError("the disk is full")

    monkeypatch.setattr(world.store, "save_function", refuse)
    with pytest.raises(StoreError):
        await world.deploy()
    assert await world.edge.call(FN) == first
    await world.settle()


async def test_a_controller_killed_between_check_and_save_leaves_the_old_revision_serving(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.deploy()
    first = await world.edge.call(FN)
    saving = asyncio.Event()

    async def hang(function: Function, **options: Any) -> None:
        saving.set()
        await asyncio.Event().wait()

    with monkeypatch.context() as patched:
        patched.setattr(world.store, "save_function", hang)
        update = asyncio.create_task(world.deploy())
        await saving.wait()
        assert len(await world.running()) == 2
        again = await world.restart_controller()
        update.cancel()
    assert await again.edge.call(FN) == first
    await again.settle()
    assert await again.running() == [first]
    await again.close()


# -- changed secrets


async def test_a_changed_secret_that_prevents_a_start_leaves_the_instances_serving(world: World) -> None:
    await world.function_secrets.save_secret("openfaas-fn", "key", b"old", must_exist=False)
    spec = FunctionSpec("fn", IMAGE, secrets=("key",))
    await world.deployments.deploy(spec, must_exist=False, start=False)
    first = await world.edge.call(FN)
    world.node.fail[FN] = deque([CRASH])
    with pytest.raises(RolloutFailed, match=r"secret key was changed, but fn.openfaas-fn does not start with it"):
        await world.function_secrets.save_secret("openfaas-fn", "key", b"new", must_exist=True)
    assert await world.edge.call(FN) == first
    assert world.secrets.values == {("openfaas-fn", "key"): b"new"}
    assert await kept(world) == []
    await world.settle()


async def test_a_changed_secret_does_not_make_a_revision(world: World) -> None:
    await world.function_secrets.save_secret("openfaas-fn", "key", b"old", must_exist=False)
    await world.deployments.deploy(FunctionSpec("fn", IMAGE, secrets=("key",)), must_exist=False, start=False)
    first = await world.edge.call(FN)
    await world.function_secrets.save_secret("openfaas-fn", "key", b"new", must_exist=True)
    assert await world.edge.call(FN) != first
    assert world.fleet.entries[FN].function.revision == 1
    assert await kept(world) == []
    await world.settle()


# -- bundles and programs


async def test_the_bundle_of_a_kept_revision_is_kept(world: World) -> None:
    await world.deploy()
    await world.add_bundle(IMAGE, "b" * 64, created_at=0.0)
    await world.add_bundle("other", "c" * 64, created_at=0.0)
    again = await world.restart_controller()
    await again.deploy()
    await again.settle(1.0)
    assert again.bundles.digests() == [DIGEST, "b" * 64]
    await again.close()


@pytest.mark.parametrize(("private", "checked"), [(True, True), (False, False)])
async def test_a_program_is_not_checked_if_the_old_one_holds_its_port(
    private: bool, checked: bool, world: World
) -> None:
    world.node.description = replace(world.node.description, private_ports=private)
    world.node.reachable = False
    world.node.reachable = True  # another node process answers
    await asyncio.sleep(1)
    await world.deploy(upstream="http://127.0.0.1:8000")
    await world.edge.call(function_id("fn"))
    await world.deploy(upstream="http://127.0.0.1:8000")
    assert launched(world) == ([1, 2] if checked else [1])
    await world.edge.call(FN)
    await world.settle()


async def test_a_bundle_that_is_needed_again_while_another_is_collected_stays(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = {"e" * 64, "f" * 64}
    for digest in both:
        world.bundles.put(digest)
    remove, needed = world.bundles.remove, set[str]()

    async def remove_slowly(digest: str) -> None:
        needed.update(both - {digest})  # deployed by another controller, for example
        await remove(digest)

    async def revision_digests() -> set[str]:
        return needed

    monkeypatch.setattr(world.bundles, "remove", remove_slowly)
    monkeypatch.setattr(world.store, "revision_digests", revision_digests)
    await world.images.collect()
    assert len(both & set(world.bundles.digests())) == 1
