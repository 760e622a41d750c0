"""A controller whose source does not list all functions: the others are found when they are called."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from control_world import DIGEST, FN, IMAGE, World

from rescoldo.bundle.memory import MemoryBundles
from rescoldo.link.protocol import Refused
from rescoldo.model.deployed import Deployed
from rescoldo.model.errors import NotFound, Paused, StartFailed, StoreError, UnknownImage
from rescoldo.model.function import Function, FunctionSpec
from rescoldo.model.names import FunctionId
from rescoldo.model.revision import Revision
from rescoldo.model.standing import Standing
from rescoldo.store.memory import MemoryDocuments, MemoryStore

pytestmark = pytest.mark.looptime

OTHER = FunctionId("other.openfaas-fn")


class Elsewhere(MemoryDocuments):
    """Lists what was asked for by name alone."""

    complete = False

    def __init__(self, beside: MemoryDocuments) -> None:
        super().__init__(beside)
        self.asked: list[FunctionId] = []
        self.away = False

    async def all(self) -> list[Deployed]:
        return [one for one in await super().all() if one.id in self.asked]

    async def get(self, function: FunctionId) -> Deployed | None:
        self.asked.append(function)
        if self.away:
            raise StoreError("control is away")
        await asyncio.sleep(0.01)
        return await super().get(function)


@pytest.fixture
def there() -> MemoryDocuments:
    """The functions as their source has them."""
    return MemoryDocuments()


@pytest.fixture
def asking(there: MemoryDocuments) -> Elsewhere:
    return Elsewhere(there)


@pytest.fixture
async def world(asking: Elsewhere) -> AsyncIterator[World]:
    made = await World.make(store=MemoryStore(asking))
    yield made
    await made.close()


def deployed(minimum: int = 0) -> Deployed:
    notes, labels = {"rescoldo.dev/idle-window": "1h"}, {"com.openfaas.scale.min": str(minimum)}
    return Deployed(Function(FunctionSpec("fn", IMAGE, annotations=notes, labels=labels), DIGEST, 1.0))


async def test_a_function_is_found_by_its_first_call(there: MemoryDocuments, world: World) -> None:
    await there.put(deployed())
    assert not world.fleet.entries
    assert await world.edge.call(FN)
    assert list(world.fleet.entries) == [FN]
    await world.settle()
    assert len(world.instances()) == 1


async def test_calls_at_once_share_the_look_up_and_the_start(
    there: MemoryDocuments, world: World, asking: Elsewhere
) -> None:
    await there.put(deployed())
    served = await asyncio.gather(*(world.edge.call(FN) for _ in range(20)))
    assert len(set(served)) == 1


async def test_a_name_that_nobody_knows_is_not_found(world: World) -> None:
    with pytest.raises(NotFound, match=r"other\.openfaas-fn is not deployed"):
        await world.edge.call(OTHER)
    assert not world.fleet.entries


async def test_while_the_source_is_away_known_functions_wake_and_others_hear_why_not(
    there: MemoryDocuments, world: World, asking: Elsewhere
) -> None:
    await there.put(deployed())
    await world.edge.call(FN)
    await world.scaling.scale(FN, 0)
    asking.away = True
    assert await world.edge.call(FN)
    with pytest.raises(StoreError, match="control is away"):
        await world.edge.call(OTHER)


async def test_a_refused_function_is_answered_with_the_reason(
    there: MemoryDocuments, world: World, monkeypatch: pytest.MonkeyPatch, asking: Elsewhere
) -> None:
    async def refuse(function: FunctionId) -> None:
        raise Refused("it has the field 'gravity'")

    monkeypatch.setattr(asking, "get", refuse)
    answer = await world.waker._answer(FN)
    assert answer == b"no 503 1 27\nit has the field 'gravity'\n"


async def test_a_removed_function_is_looked_for_again_when_it_is_called(there: MemoryDocuments, world: World) -> None:
    await there.put(deployed())
    await world.edge.call(FN)
    await there.delete(FN)
    await world.until(lambda: FN not in world.edge.routes)
    with pytest.raises(NotFound):
        await world.edge.call(FN)
    await there.put(deployed())
    assert await world.edge.call(FN)


async def test_it_appears_with_its_standing_and_its_requested_replicas(there: MemoryDocuments, world: World) -> None:
    await there.put(replace(deployed(), requested=3))
    await world.edge.call(FN)
    await world.settle()
    assert len(world.instances()) == 3


async def test_a_paused_function_stays_paused(there: MemoryDocuments, world: World) -> None:
    await there.put(replace(deployed(), standing=Standing(paused=True)))
    with pytest.raises(Paused):
        await world.edge.call(FN)
    await world.pauses.resume(FN)
    assert await world.edge.call(FN)
    found = await there.get(FN)
    assert found is not None
    assert not found.standing.paused


class Registry:
    """Implements `Elsewhere`: control has one image."""

    def __init__(self, bundles: MemoryBundles) -> None:
        self.bundles = bundles
        self.digests = {"their:image": "d" * 64}

    async def digest(self, image: str) -> str:
        return self.digests.get(image, "")

    async def need(self, digest: str) -> None:
        if digest not in self.digests.values():
            raise StartFailed("it is nowhere")
        self.bundles.put(digest)


async def test_an_image_that_is_elsewhere_is_fetched_and_deployed(world: World) -> None:
    world.images._elsewhere = Registry(world.bundles)
    spec = FunctionSpec("fn", "their:image")
    assert await world.deployments.deploy(spec, must_exist=False, start=False)
    assert world.bundles.has("d" * 64)
    assert world.fleet.entries[FN].function.digest == "d" * 64
    with pytest.raises(UnknownImage):
        await world.deployments.deploy(FunctionSpec("fn", "nobodys:image"), must_exist=False, start=False)
    world.images._elsewhere.digests.clear()
    with pytest.raises(UnknownImage):  # it was taken away
        await world.deployments.deploy(spec, must_exist=False, start=False)


async def test_a_rollback_fetches_the_bundle_of_its_revision(there: MemoryDocuments, world: World) -> None:
    world.images._elsewhere = Registry(world.bundles)
    past = Revision(1, FunctionSpec("fn", "their:image"), "d" * 64, 1.0)
    new = replace(deployed(), function=replace(deployed().function, revision=2), revisions=(past,))
    await there.put(new)
    await world.edge.call(FN)
    assert await world.deployments.roll_back(FN, None) == 3
    assert world.fleet.entries[FN].function.digest == "d" * 64
