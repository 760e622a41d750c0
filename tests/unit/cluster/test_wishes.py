"""What users change with kubectl is deployed as over the API, and the Function says what became of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from rescoldo.cluster.columns import PAUSE, Columns
from rescoldo.cluster.documents import KubeDocuments
from rescoldo.cluster.protocol import Answered, Asked, NoOwner
from rescoldo.cluster.wishes import RETRY_SECONDS, Wishes
from rescoldo.kube.fake import FakeCluster
from rescoldo.kube.functions import FUNCTIONS, to_object
from rescoldo.model.deployed import NEW, Deployed
from rescoldo.model.function import Function, FunctionSpec, spec_from_json
from rescoldo.model.standing import PLAIN, Standing

SPEC = FunctionSpec("fn", "me/fn:1")
pytestmark = pytest.mark.looptime


@dataclass
class World:
    """A control whose owner deploys all that it is asked for, unless `refusal` says why not."""

    cluster: FakeCluster = field(default_factory=FakeCluster)
    refusal: tuple[int, str] | None = None
    away: bool = False
    asked: list[FunctionSpec] = field(default_factory=list)
    saved: list[FunctionSpec] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.documents = KubeDocuments(self.cluster)

    @asynccontextmanager
    async def ask(self, asked: Asked) -> AsyncIterator[Answered]:
        if self.away:
            raise NoOwner("nobody answers")
        spec = spec_from_json(json.loads(asked.body))
        self.asked.append(spec)
        if self.refusal is None:
            await self.save(spec)

        async def text() -> AsyncIterator[bytes]:
            yield ("" if self.refusal is None else self.refusal[1]).encode()

        yield Answered(202 if self.refusal is None else self.refusal[0], {}, text())

    async def save(self, spec: FunctionSpec) -> None:
        self.saved.append(spec)
        known = await self.documents.get(spec.id)
        function = Function(spec, "a" * 64, 1.0, 1 if known is None else known.function.revision + 1)
        if known is None or known.function.spec != spec:
            await self.documents.put(Deployed(function, version=NEW if known is None else known.version))

    async def function(self) -> Any:
        return await self.cluster.get(FUNCTIONS, "fn", "openfaas-fn")

    async def conditions(self) -> dict[str, tuple[str, str, str]]:
        found = (await self.function()).get("status", {}).get("conditions", [])
        return {one["type"]: (one["status"], one["reason"], one["message"]) for one in found}

    async def apply(self, spec: FunctionSpec) -> None:
        await self.cluster.apply(FUNCTIONS, to_object(spec), manager="kubectl", force=True)

    async def until_observed(self) -> None:
        while True:
            found = await self.function()
            if found.get("status", {}).get("observedGeneration") == found["metadata"]["generation"]:
                return
            await asyncio.sleep(0.01)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    found = World()
    tasks = [asyncio.create_task(found.documents.run())]
    await found.documents.ready.wait()
    tasks.append(asyncio.create_task(Wishes(found.documents, found, found.save).run()))
    await asyncio.sleep(0)
    yield found
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_what_is_applied_is_deployed_by_its_owner(world: World) -> None:
    await world.apply(SPEC)
    await world.until_observed()
    assert world.asked == [SPEC]
    assert await world.conditions() == {"Accepted": ("True", "Valid", ""), "Ready": ("True", "Deployed", "")}
    await world.apply(replace(SPEC, image="me/fn:2"))
    await world.until_observed()
    found = await world.documents.get(SPEC.id)
    assert found is not None
    assert (found.function.spec.image, found.function.revision) == ("me/fn:2", 2)


async def test_a_deployment_over_the_api_is_no_wish(world: World) -> None:
    await world.documents.put(Deployed(Function(SPEC, "a" * 64, 1.0)))
    await asyncio.sleep(2 * RETRY_SECONDS)
    assert world.asked == []


async def test_a_refusal_is_told_and_tried_again(world: World) -> None:
    await world.apply(SPEC)
    await world.until_observed()
    world.refusal = (400, "image me/fn:2 is not here")
    await world.apply(replace(SPEC, image="me/fn:2"))
    await world.until_observed()
    assert await world.conditions() == {
        "Accepted": ("False", "Refused", "image me/fn:2 is not here"),
        "Ready": ("False", "Refused", "image me/fn:2 is not here; revision 1 keeps serving"),
    }
    since, before = (await world.function())["metadata"]["resourceVersion"], len(world.asked)
    await asyncio.sleep(2 * RETRY_SECONDS)
    assert (await world.function())["metadata"]["resourceVersion"] == since  # what is known is not told again
    assert 2 <= len(world.asked) - before <= 3
    world.refusal = None
    await asyncio.sleep(RETRY_SECONDS + 1)
    assert (await world.conditions())["Ready"] == ("True", "Deployed", "")


async def test_a_corrected_spec_does_not_wait_for_its_turn(world: World) -> None:
    world.refusal = (400, "no")
    await world.apply(SPEC)
    await world.until_observed()
    world.refusal = None
    begun = asyncio.get_running_loop().time()
    await world.apply(replace(SPEC, image="me/fn:2"))
    await world.until_observed()
    assert asyncio.get_running_loop().time() - begun < 3


async def test_what_cannot_be_done_now_is_done_later(world: World) -> None:
    world.refusal = (503, "no room")
    await world.apply(SPEC)
    await asyncio.sleep(5)
    assert await world.conditions() == {}  # nobody has refused it
    world.refusal = None
    await world.until_observed()


async def test_without_an_owner_control_saves_it(world: World) -> None:
    world.away = True
    await world.apply(SPEC)
    await world.until_observed()
    assert world.saved == [SPEC]


async def test_a_refusal_of_an_earlier_control_is_tried_at_the_start(world: World) -> None:
    world.refusal = (400, "no")
    await world.apply(SPEC)
    await world.until_observed()
    later = World(cluster=world.cluster)
    following = asyncio.create_task(later.documents.run())
    wishes = asyncio.create_task(Wishes(later.documents, later, later.save).run())
    while (await later.conditions())["Accepted"][0] == "False":
        await asyncio.sleep(0.1)
    for task in (following, wishes):
        task.cancel()


@pytest.mark.parametrize(
    ("standing", "status", "reason"),
    [
        (PLAIN, "True", "Deployed"),
        (Standing(untried=True), "Unknown", "NotStarted"),
        (Standing(failure="it exits with 1"), "False", "StartFailed"),
        (Standing(paused=True), "False", "Paused"),
    ],
)
async def test_ready_says_how_the_function_stands(world: World, standing: Standing, status: str, reason: str) -> None:
    await world.documents.put(Deployed(Function(SPEC, "a" * 64, 1.0), standing=standing))
    assert (await world.conditions())["Ready"][:2] == (status, reason)


async def test_columns_are_patched_one_after_the_other_and_only_if_they_differ(world: World) -> None:
    specs = [replace(SPEC, name=f"fn{number}") for number in range(3)]
    for spec in specs:
        await world.documents.put(Deployed(Function(spec, "a" * 64, 1.0)))
    shown = {spec.id: {"kind": "python", "state": "ready", "awake": 1, "calls": 5} for spec in specs}
    columns = asyncio.create_task(Columns(world.documents, lambda: shown).run())
    before = len(world.cluster.requests)
    await asyncio.sleep(3.5 * PAUSE)
    assert [one.verb for one in world.cluster.requests[before:]] == ["patch"] * 3
    found = await world.cluster.get(FUNCTIONS, "fn1", "openfaas-fn")
    assert {name: found["status"][name] for name in ("kind", "state", "awake", "calls")} == shown[specs[1].id]
    before = len(world.cluster.requests)
    await asyncio.sleep(100 * PAUSE)
    assert world.cluster.requests[before:] == []
    columns.cancel()
