"""A first deployment gets a trial start, and a function's reported state is true at every moment; on virtual time."""

from __future__ import annotations

import asyncio
from collections import deque

import pytest
from control_world import CRASH, FN, IMAGE, World, now

from rescoldo.control.deploy.first_starts import AT_ONCE, MOST_AWAKE
from rescoldo.model.errors import (
    Busy,
    Conflict,
    NotStarted,
    RescoldoError,
    RolloutFailed,
    StartFailed,
    StartTimeout,
    StoreError,
)
from rescoldo.model.function import FunctionSpec, FunctionStatus
from rescoldo.model.names import function_id
from rescoldo.model.standing import PLAIN, State

pytestmark = pytest.mark.looptime

SPEC = FunctionSpec("fn", IMAGE)


async def status(world: World) -> FunctionStatus:
    return await world.statuses.function(FN)


async def stands(world: World) -> tuple[str, int, int]:
    """The function's state, replicas and available replicas."""
    found = await status(world)
    return str(found.state), found.replicas, found.available


async def deploy(world: World, patience: float = 0.0, version: str = "", name: str = "fn") -> bool:
    env = {"VERSION": version} if version else {}
    spec = FunctionSpec(name, IMAGE, env_vars=env, annotations={"rescoldo.dev/idle-window": "5s"})
    return await world.deployments.deploy(spec, must_exist=False, patience=patience)


def breaks(world: World, *errors: RescoldoError) -> None:
    world.node.fail[FN] = deque(errors)


# -- a start that succeeds


async def test_a_first_deployment_returns_at_once_and_starts_in_the_background(world: World) -> None:
    world.node.start_delay = 3.0
    assert await deploy(world) is False
    assert now() < 0.1
    assert await stands(world) == ("deploying", 1, 0)
    await world.until(lambda: world.fleet.entries[FN].awake is not None)
    assert now() == pytest.approx(3.0, abs=0.1)
    assert await stands(world) == ("ready", 1, 1)
    await asyncio.sleep(12.0)
    assert await stands(world) == ("asleep", 0, 0)
    assert await world.store.standings() == {}
    await world.settle()


async def test_a_patient_deployment_returns_when_the_function_has_started(world: World) -> None:
    world.node.start_delay = 3.0
    assert await deploy(world, patience=10.0) is True
    assert now() == pytest.approx(3.0, abs=0.1)
    assert len(world.node.started) == 1


async def test_a_deployment_out_of_patience_returns_while_the_start_continues(world: World) -> None:
    world.node.start_delay = 3.0
    assert await deploy(world, patience=1.0) is False
    assert now() == pytest.approx(1.0, abs=0.1)
    await world.until(lambda: not world.asleep())
    assert await stands(world) == ("deploying", 1, 0)


async def test_a_call_during_the_first_start_shares_it(world: World) -> None:
    world.node.start_delay = 3.0
    await deploy(world)
    await world.edge.call(FN)
    assert len(world.node.started) == 1
    assert await stands(world) == ("ready", 1, 1)


# -- a start that fails


@pytest.mark.parametrize("error", [CRASH, StartTimeout("fn.openfaas-fn: it was not ready after 15 s")])
async def test_a_function_that_does_not_start_is_failing_with_its_reason(world: World, error: RescoldoError) -> None:
    breaks(world, error)
    with pytest.raises(NotStarted, match=r"fn\.openfaas-fn did not start") as raised:
        await deploy(world, patience=60.0)
    assert error.message in raised.value.message
    assert await stands(world) == ("failing", 0, 0)
    assert (await status(world)).reason == error.message
    [listed] = world.statuses.functions("openfaas-fn")
    assert (listed.state, listed.reason) == (State.FAILING, error.message)
    [revision] = await world.revisions.revisions(FN)
    assert (revision.state, revision.revision.failure) == ("failed", error.message)


async def test_calls_of_a_failing_function_get_the_reason_and_retry_after_the_back_off(world: World) -> None:
    breaks(world, CRASH, CRASH)
    await deploy(world)
    await world.until(lambda: world.fleet.entries[FN].failure is not None)
    with pytest.raises(StartFailed, match="broken at import"):
        await world.edge.call(FN)
    assert len(world.node.started) == 1, "there is no attempt within the back-off"
    await asyncio.sleep(5.0)
    with pytest.raises(StartFailed, match="broken at import"):
        await world.edge.call(FN)
    await asyncio.sleep(5.0)
    await world.edge.call(FN)
    assert await stands(world) == ("ready", 1, 1)
    await asyncio.sleep(0.1)
    assert await world.store.standings() == {}
    [revision] = await world.revisions.revisions(FN)
    assert revision.state == "serving"
    await world.settle()


async def test_a_new_deployment_replaces_one_that_never_started_and_is_tried(world: World) -> None:
    breaks(world, CRASH)
    with pytest.raises(NotStarted):
        await deploy(world, patience=60.0)
    assert await deploy(world, patience=60.0, version="2") is True
    assert await stands(world) == ("ready", 1, 1)
    found = [(one.revision.number, one.state) for one in await world.revisions.revisions(FN)]
    assert found == [(2, "serving"), (1, "failed")], "a rollback to a revision that never started is impossible"
    await world.settle()


async def test_repeating_a_failed_deployment_tries_it_again(world: World) -> None:
    breaks(world, CRASH, CRASH)
    for _ in range(2):
        with pytest.raises(NotStarted):
            await deploy(world, patience=60.0)
    assert await deploy(world, patience=60.0) is True
    assert (await status(world)).function.revision == 1
    await world.settle()


async def test_a_second_broken_deployment_has_its_own_reason(world: World) -> None:
    breaks(world, CRASH, StartFailed("another reason"))
    with pytest.raises(NotStarted):
        await deploy(world, patience=60.0)
    with pytest.raises(NotStarted, match="another reason"):
        await deploy(world, patience=60.0, version="2")
    assert (await status(world)).reason == "another reason"


async def test_an_update_of_a_failing_function_that_started_before_is_checked(world: World) -> None:
    await deploy(world, patience=60.0)
    await asyncio.sleep(20.0)
    breaks(world, CRASH, CRASH)
    with pytest.raises(StartFailed):
        await world.edge.call(FN)
    assert await stands(world) == ("failing", 0, 0)
    with pytest.raises(RolloutFailed, match="revision 1 stays, although its last start failed, too"):
        await deploy(world, patience=60.0, version="2")
    assert (await status(world)).function.revision == 1


async def test_without_a_free_slot_a_function_is_deploying_until_there_is_one() -> None:
    world = await World.make(slots=1)
    await deploy(world, patience=60.0, name="other")
    world.hold_calls()
    call = asyncio.create_task(world.edge.call(function_id("other")))
    await asyncio.sleep(0.1)
    assert await deploy(world) is False
    await asyncio.sleep(10.0)
    assert await stands(world) == ("deploying", 1, 0)
    assert (await status(world)).reason == ""
    call.cancel()
    await world.until(lambda: not world.asleep())
    await world.close()


async def test_a_deployment_during_the_first_start_replaces_it(world: World) -> None:
    world.node.start_delay = 3.0
    first = asyncio.create_task(deploy(world, patience=60.0))
    await world.until(lambda: world.node.started)
    assert await deploy(world, patience=60.0, version="2") is True
    with pytest.raises(Conflict, match="deployed again before its revision 1 had started"):
        await first
    assert [launch.revision for launch in world.node.started] == [1, 2]
    await world.settle()


async def test_a_removal_during_the_first_start_ends_it(world: World) -> None:
    world.node.start_delay = 3.0
    first = asyncio.create_task(deploy(world, patience=60.0))
    await world.until(lambda: world.node.started)
    await world.removals.remove(FN)
    with pytest.raises(Conflict, match="removed before"):
        await first
    await world.settle()


async def test_many_first_starts_run_a_few_at_a_time_and_free_slots_for_the_next() -> None:
    world = await World.make(slots=2 * MOST_AWAKE)
    world.node.start_delay = 1.0
    names = [f"f-{number}" for number in range(4 * MOST_AWAKE)]
    for name in names:
        spec = FunctionSpec(name, IMAGE, annotations={"rescoldo.dev/idle-window": "1h"})
        await world.deployments.deploy(spec, must_exist=False)
    assert now() < 1.0
    most = 0
    while len(world.node.started) < len(names):
        starting = [entry for entry in world.fleet.entries.functions() if entry.waking is not None]
        most = max(most, len(starting))
        await asyncio.sleep(0.1)
    assert most <= AT_ONCE
    await asyncio.sleep(10.0)
    states = {found.state for found in world.statuses.functions("openfaas-fn")}
    assert states == {State.READY, State.ASLEEP}, "the last ones keep their idle window"
    assert await world.store.standings() == {}
    assert world.reloads == [], "no trial start took a slot that another needed"
    await world.settle()
    await world.close()


async def test_a_function_called_since_its_trial_start_keeps_its_idle_window() -> None:
    world = await World.make(slots=2 * MOST_AWAKE)
    notes = {"rescoldo.dev/idle-window": "1h"}
    for number in range(MOST_AWAKE + 2):
        spec = FunctionSpec(f"f-{number}", IMAGE, annotations=notes)
        assert await world.deployments.deploy(spec, must_exist=False, patience=10.0)
        if not number:
            await world.edge.call(spec.id)
    await asyncio.sleep(10.0)
    found = {one.function.spec.name: one.state for one in world.statuses.functions("openfaas-fn")}
    assert (found["f-0"], found["f-1"], found["f-2"]) == (State.READY, State.ASLEEP, State.READY)
    await world.settle()
    await world.close()


# -- after a restart of the controller


async def test_the_next_controller_reports_a_failure_and_retries_on_a_call(world: World) -> None:
    breaks(world, CRASH)
    with pytest.raises(NotStarted):
        await deploy(world, patience=60.0)
    await asyncio.sleep(0.1)
    after = await world.restart_controller()
    assert await stands(after) == ("failing", 0, 0)
    assert (await status(after)).reason == CRASH.message
    await asyncio.sleep(60.0)
    assert len(after.node.started) == 1, "only the next call retries"
    await after.edge.call(FN)
    assert await stands(after) == ("ready", 1, 1)
    await after.close()


async def test_the_next_controller_repeats_an_unfinished_trial_start(world: World) -> None:
    world.node.start_delay = 3.0
    await deploy(world)
    await world.until(lambda: world.node.started)
    after = await world.restart_controller()
    assert (await stands(after))[0] in ("deploying", "ready")
    await after.until(lambda: after.fleet.entries[FN].standing == PLAIN)
    assert await stands(after) == ("ready", 1, 1)
    await asyncio.sleep(0.1)
    assert await after.store.standings() == {}
    await after.settle()
    await after.close()


async def test_the_next_controller_does_not_try_a_function_deployed_without_a_start(world: World) -> None:
    await world.deployments.deploy(SPEC, must_exist=False, start=False)
    after = await world.restart_controller()
    await asyncio.sleep(10.0)
    assert (await stands(after), after.node.started) == (("asleep", 0, 0), [])
    await after.close()


# -- pausing


async def test_a_paused_function_refuses_calls_does_not_wake_and_finishes_calls_in_flight(world: World) -> None:
    await deploy(world, patience=60.0)
    finish = world.hold_calls()
    call = asyncio.create_task(world.edge.call(FN))
    await asyncio.sleep(0.1)
    await world.pauses.pause(FN)
    assert (await status(world)).state == State.PAUSED
    with pytest.raises(Exception, match="paused"):
        await world.edge.call(FN)
    await asyncio.sleep(1.0)
    finish.set()
    await call
    await world.settle()
    assert await stands(world) == ("paused", 0, 0)
    assert len(world.node.started) == 1
    await world.pauses.resume(FN)
    assert await stands(world) == ("asleep", 0, 0)
    await world.edge.call(FN)


async def test_a_held_call_is_refused_when_its_function_is_paused(world: World) -> None:
    await world.deploy()
    world.node.start_delay = 3.0
    call = asyncio.create_task(world.edge.call(FN))
    await world.until(lambda: world.node.started)
    await world.pauses.pause(FN)
    with pytest.raises(Exception, match="paused"):
        await call
    await world.settle()
    assert len(world.node.started) == 1


async def test_a_paused_function_ignores_its_minimum_until_it_is_resumed(world: World) -> None:
    await world.deploy(minimum=2)
    await world.until(lambda: not world.asleep() and not world.fleet.entries[FN].waking)
    await world.pauses.pause(FN)
    await world.settle()
    assert await stands(world) == ("paused", 0, 0)
    with pytest.raises(Conflict, match="resume it first"):
        await world.scaling.scale(FN, 3)
    await world.pauses.resume(FN)
    await world.until(lambda: not world.asleep() and len(world.awake().servers) == 2)
    await world.settle()


async def test_a_deployment_of_a_paused_function_is_accepted_unchecked_and_tried_on_resume(world: World) -> None:
    await deploy(world, patience=60.0)
    await world.pauses.pause(FN)
    await world.settle()
    breaks(world, CRASH)
    assert await deploy(world, patience=60.0, version="2") is True
    assert len(world.node.started) == 1
    assert (await status(world)).function.revision == 2
    await world.pauses.resume(FN)
    await world.until(lambda: world.fleet.entries[FN].failure is not None)
    assert await stands(world) == ("failing", 0, 0)


async def test_a_function_stays_paused_after_a_restart_and_its_instances_are_not_adopted(world: World) -> None:
    await world.deploy(minimum=1)
    await world.until(lambda: not world.asleep())
    await world.edge.call(FN)
    finish = world.hold_calls()
    call = asyncio.create_task(world.edge.call(FN))
    await asyncio.sleep(0.1)
    await world.pauses.pause(FN)
    after = await world.restart_controller()
    assert (await status(after)).state == State.PAUSED
    with pytest.raises(Exception, match="paused"):
        await after.edge.call(FN)
    finish.set()
    await call
    await after.settle()
    assert await stands(after) == ("paused", 0, 0)
    await after.close()


async def test_a_pause_that_cannot_be_saved_has_no_effect(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.deploy()

    async def refuse(*_: object) -> None:
        raise StoreError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(world.store, "save_standing", refuse)
        with pytest.raises(StoreError):
            await world.pauses.pause(FN)
    await world.edge.call(FN)
    assert (await status(world)).state == State.READY


async def test_a_pause_during_a_rollout_stays_in_force(world: World) -> None:
    await world.deploy()
    await world.edge.call(FN)
    world.node.start_delay = 3.0
    update = asyncio.create_task(world.deploy())
    await world.until(lambda: len(world.node.started) == 2)
    await world.pauses.pause(FN)
    await update
    await world.settle()
    assert await stands(world) == ("paused", 0, 0)
    assert (await world.store.standings())[FN].paused
    assert (await status(world)).function.revision == 2


async def test_a_pause_during_the_first_start_ends_it_and_a_resume_tries_again(world: World) -> None:
    world.node.start_delay = 3.0
    await deploy(world)
    await world.until(lambda: world.node.started)
    await world.pauses.pause(FN)
    await world.settle()
    assert await stands(world) == ("paused", 0, 0)
    await world.pauses.resume(FN)
    assert await stands(world) == ("deploying", 1, 0)
    await world.until(lambda: world.fleet.entries[FN].standing == PLAIN)
    assert await stands(world) == ("ready", 1, 1)
    await world.settle()


# -- reported state and explanations


async def test_replicas_and_state_agree_at_every_moment_of_a_life(world: World) -> None:
    """Checked every 10 ms, through deployments, wakes, scaling both ways, a loss and sleep."""
    seen: set[tuple[str, bool, bool]] = set()

    async def watch() -> None:
        while True:
            if FN in world.fleet.entries:
                found = await world.statuses.function(FN, why=True)
                assert found.why is not None
                seen.add((str(found.state), found.replicas > 0, found.available > 0))
                assert found.available <= found.replicas
                assert (found.state == State.READY) == (found.available > 0)
                assert (found.why.wanted, found.why.running) == (found.replicas, found.available)
            await asyncio.sleep(0.01)

    watching = asyncio.create_task(watch())
    world.node.start_delay = 0.5
    world.node.stop_delay = 0.2
    await deploy(world, patience=60.0)
    await world.scaling.scale(FN, 5)
    await asyncio.sleep(2.0)
    await world.scaling.scale(FN, 1)
    await asyncio.sleep(2.0)
    await deploy(world, version="2")
    world.lost(world.instances()[0])
    await asyncio.sleep(60.0)
    await world.edge.call(FN)
    await world.scaling.scale(FN, 0)
    await asyncio.sleep(60.0)
    await world.pauses.pause(FN)
    await asyncio.sleep(1.0)
    assert not watching.done(), watching.exception()
    watching.cancel()
    assert seen >= {
        ("deploying", True, False), ("ready", True, True), ("asleep", False, False), ("starting", True, False),
        ("paused", False, False),
    }  # fmt: skip


async def test_why_lists_every_start(world: World) -> None:
    await deploy(world, patience=60.0)
    await deploy(world, version="2")
    await world.scaling.scale(FN, 0)
    await world.edge.call(FN)
    await world.pauses.pause(FN)
    await world.pauses.resume(FN)
    await world.scaling.scale(FN, 2)
    why = (await world.statuses.function(FN, why=True)).why
    assert why is not None
    assert [(step.before, step.after, step.reason) for step in why.steps] == [
        (0, 1, "deployed: trial start"),
        (1, 1, "revision 2 was deployed"),
        (1, 0, "scaled to zero"),
        (0, 1, "called while asleep"),
        (1, 0, "paused"),
        (0, 1, "requested with scale, or by an alert"),
        (1, 2, "requested with scale, or by an alert"),
    ]


async def test_why_lists_adopted_instances(world: World) -> None:
    await deploy(world, patience=60.0)
    after = await world.restart_controller()
    why = (await after.statuses.function(FN, why=True)).why
    assert why is not None
    (one,) = why.steps
    assert (one.before, one.after, one.reason) == (0, 1, "taken over from the previous controller")
    await after.close()


async def test_a_lack_of_capacity_is_not_a_failure(world: World) -> None:
    breaks(world, Busy("no room"))
    await deploy(world, patience=60.0)
    assert await stands(world) == ("ready", 1, 1)
