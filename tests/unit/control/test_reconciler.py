"""The controller follows others' deployments, changes and removals without a restart."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import replace

import pytest
from control_world import DIGEST, FN, IMAGE, World

from rescoldo.edge.fake import CallFailed
from rescoldo.model.deployed import Deployed
from rescoldo.model.errors import Busy, NotFound, StartFailed
from rescoldo.model.function import Function, FunctionSpec
from rescoldo.model.names import FunctionId
from rescoldo.model.standing import Standing
from rescoldo.store.memory import MemoryFunctions

pytestmark = pytest.mark.looptime


@pytest.fixture
def others(world: World) -> MemoryFunctions:
    """Another controller's view of the same functions."""
    return world.store.beside()


def function(name: str = "fn", *, revision: int = 1, minimum: int = 0, **labels: str) -> Function:
    notes = {"rescoldo.dev/idle-window": "1h"}
    labels = {"com.openfaas.scale.min": str(minimum), **labels}
    return Function(FunctionSpec(name, IMAGE, labels=labels, annotations=notes), DIGEST, 1.0, revision)


async def serving(world: World, name: str = "fn") -> int:
    """The revision of the instance that answers a call."""
    instance = await world.edge.call(FunctionId(f"{name}.openfaas-fn"))
    return next(one.launch.revision for one in await world.node.instances() if one.launch.instance == instance)


async def test_a_new_function_is_asleep_and_wakes_at_its_first_call(world: World, others: MemoryFunctions) -> None:
    await others.save_function(function())
    await world.until(lambda: FN in world.edge.routes)
    assert world.asleep()
    assert await serving(world) == 1
    await world.settle()


async def test_a_new_function_that_must_not_sleep_is_started(world: World, others: MemoryFunctions) -> None:
    await others.save_function(function(minimum=2))
    await world.until(lambda: FN in world.fleet.entries and world.fleet.entries[FN].awake is not None)
    await world.settle()
    assert len(world.instances()) == 2


async def test_a_new_revision_takes_over_from_the_serving_one(world: World, others: MemoryFunctions) -> None:
    await others.save_function(function())
    await world.until(lambda: FN in world.edge.routes)
    assert await serving(world) == 1
    await others.save_function(function(revision=2))
    await world.until(lambda: world.awake().function.revision == 2)
    assert await serving(world) == 2
    await world.settle()
    assert len(await world.running()) == 1


async def test_a_revision_that_does_not_start_leaves_the_previous_one_serving(
    world: World, others: MemoryFunctions
) -> None:
    await others.save_function(function())
    await world.until(lambda: FN in world.edge.routes)
    assert await serving(world) == 1
    world.node.fail[FN] = deque([StartFailed("no")])
    await others.save_function(function(revision=2))
    await world.until(lambda: world.refusals)
    assert world.refusals == {FN: "revision 2 did not start: no"}
    assert await serving(world) == 1
    await others.save_function(function(revision=3))
    await world.until(lambda: world.awake().function.revision == 3)
    assert world.refusals == {}
    await world.settle()


async def test_a_revision_that_takes_long_to_fail_holds_up_its_own_function_alone(
    world: World, others: MemoryFunctions
) -> None:
    for name in ("fn", "other"):
        await others.save_function(function(name))
        await world.until(lambda name=name: f"{name}.openfaas-fn" in world.edge.routes)
        assert await serving(world, name) == 1
    world.node.start_delay = 10.0
    world.node.fail[FN] = deque([StartFailed("no")])
    await others.save_function(function(revision=2))
    await asyncio.sleep(1)
    world.node.start_delay = 0.0
    await others.save_function(function("other", revision=2))
    await world.until(lambda: world.awake("other").function.revision == 2, 1.0)
    assert world.refusals == {}
    await world.until(lambda: world.refusals)
    assert world.refusals == {FN: "revision 2 did not start: no"}
    await world.settle()


async def test_a_revision_without_room_is_tried_again(world: World, others: MemoryFunctions) -> None:
    await others.save_function(function())
    await world.until(lambda: FN in world.edge.routes)
    assert await serving(world) == 1
    world.node.fail[FN] = deque([Busy("the machine is full")] * 3)
    await others.save_function(function(revision=2))
    await world.until(lambda: world.awake().function.revision == 2)
    assert not world.node.fail[FN]
    assert world.refusals == {}
    await world.settle()


async def test_a_revision_without_room_is_refused_and_others_are_taken_over(
    world: World, others: MemoryFunctions
) -> None:
    for name in ("fn", "other"):
        await others.save_function(function(name))
        await world.until(lambda name=name: f"{name}.openfaas-fn" in world.edge.routes)
        assert await serving(world, name) == 1
    world.node.fail[FN] = deque([Busy("the machine is full")])
    documents = world.store.documents.shared
    for name in ("fn", "other"):
        one = FunctionId(f"{name}.openfaas-fn")
        documents[one] = Deployed(function(name, revision=2), version=99)  # without any notification
    world.store.documents.lose_sight()
    await world.until(lambda: world.awake("other").function.revision == 2)
    assert world.refusals == {FN: "the machine is full"}
    assert await serving(world) == 1
    await others.delete_function(FN)
    await world.until(lambda: FN not in world.fleet.entries)
    assert world.refusals == {}


async def test_a_function_that_others_remove_ends_with_its_instances(world: World, others: MemoryFunctions) -> None:
    await world.deploy(minimum=1)
    await world.until(lambda: world.fleet.entries[FN].awake is not None)
    await others.delete_function(FN)
    await world.until(lambda: FN not in world.edge.routes)
    await world.settle()
    assert await world.running() == []
    with pytest.raises(NotFound):
        await world.edge.call(FN)


async def test_a_split_that_others_set_is_applied_and_ended(world: World, others: MemoryFunctions) -> None:
    await others.save_function(function())
    second = function(revision=2)
    await others.save_function(second)
    await world.until(lambda: FN in world.edge.routes)
    await others.save_function(replace(second, traffic={1: 50, 2: 50}))
    await world.until(lambda: len(world.fleet.entries) == 2)
    await world.settle()
    await others.save_function(second)
    await world.until(lambda: len(world.fleet.entries) == 1)
    await world.settle()


async def test_after_a_gap_everything_is_compared(world: World, others: MemoryFunctions) -> None:
    await world.deploy("kept")
    await world.deploy("gone")
    kept = world.fleet.entries[FunctionId("kept.openfaas-fn")]
    documents = world.store.documents.shared
    del documents[FunctionId("gone.openfaas-fn")]  # without any notification
    documents[FN] = Deployed(function())
    world.store.documents.lose_sight()
    await world.until(lambda: FN in world.edge.routes)
    await world.settle()
    assert world.fleet.entries.keys() == {kept.id, FN}
    assert world.fleet.entries[kept.id] is kept


async def test_the_controllers_own_deployments_are_left_alone(world: World, others: MemoryFunctions) -> None:
    await world.deploy()
    before = await serving(world)
    world.store.documents.lose_sight()
    await world.deploy()
    await world.settle()
    assert await serving(world) == before + 1
    assert len(await world.running()) == 1


@pytest.mark.parametrize("told", [True, False])
async def test_a_pause_and_a_requested_number_of_others_are_taken_over(
    world: World, others: MemoryFunctions, told: bool
) -> None:
    await world.deploy()
    await world.edge.call(FN)
    if told:
        await others.save_requested_replicas(FN, 3)
    else:
        world.store.documents.shared[FN] = replace(world.store.documents.shared[FN], requested=3)
        world.store.documents.lose_sight()
    await world.settle()
    assert len(world.instances()) == 3
    if told:
        await others.save_standing(FN, Standing(paused=True))
    else:
        paused = replace(world.store.documents.shared[FN], standing=Standing(paused=True))
        world.store.documents.shared[FN] = paused
        world.store.documents.lose_sight()
    await world.until(lambda: world.fleet.entries[FN].standing.paused)
    await world.settle()
    assert world.asleep()
    with pytest.raises(CallFailed, match="paused"):
        await world.edge.call(FN)
    await others.save_standing(FN, Standing())
    await world.settle()
    assert len(world.instances()) == 3, "the requested number holds until it sleeps"


async def test_a_change_of_ours_that_is_not_saved_yet_wins(world: World, others: MemoryFunctions) -> None:
    await world.deploy()
    await world.edge.call(FN)
    saving, going_on = asyncio.Event(), asyncio.Event()
    save = world.store.documents.put

    async def slow(document: Deployed) -> int:
        saving.set()
        await going_on.wait()
        return await save(document)

    world.store.documents.put = slow  # type: ignore[method-assign]
    scaling = asyncio.create_task(world.scaling.scale(FN, 2))
    await saving.wait()
    pausing = asyncio.create_task(world.pauses.pause(FN))
    await others.save_standing(FN, Standing(failure="theirs"))
    await others.save_requested_replicas(FN, 5)
    await asyncio.sleep(1)
    going_on.set()
    await asyncio.gather(scaling, pausing)
    await world.settle()
    entry, document = world.fleet.entries[FN], world.store.documents.shared[FN]
    assert (entry.requested, document.requested) == (2, 2)
    assert (entry.standing.paused, document.standing.paused) == (True, True)
