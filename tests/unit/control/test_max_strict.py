"""A function with max-strict never has more instances than its maximum, on one machine and on two workers that share
it, whoever calls where and whatever is cut off; on virtual time."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest
from control_world import CRASH, DIGEST, FN, IMAGE, World, now, stray
from test_upkeep import Silent

from rescoldo.bundle.memory import MemoryBundles
from rescoldo.edge.fake import CallFailed, FakeEdge
from rescoldo.link.fake import MemoryControl
from rescoldo.link.grants import Grants
from rescoldo.link.membership import Membership
from rescoldo.link.protocol import Unreachable
from rescoldo.link.refusals import Refusals
from rescoldo.link.reports import Reports
from rescoldo.model.deployed import Deployed
from rescoldo.model.errors import Busy, InvalidInput, RolloutFailed
from rescoldo.model.function import Function, FunctionSpec
from rescoldo.model.names import FunctionId, InstanceId
from rescoldo.model.settings import Settings
from rescoldo.node.fake import FakeNode
from rescoldo.policy.grants import GRANT_SECONDS, WAIT_SECONDS, Grant
from rescoldo.store.memory import MemoryDocuments, MemorySecrets, MemoryStore

pytestmark = pytest.mark.looptime

STRICT = {"rescoldo.dev/max-strict": "true"}
MAX = "com.openfaas.scale.max"


async def test_instances_that_are_still_ending_count(world: World) -> None:
    world.node.stop_delay = 3.0
    await world.deploy(notes=STRICT, **{MAX: "1"})
    await world.edge.call(FN)
    await world.scaling.scale(FN, 0)
    with pytest.raises(Busy, match="max-strict, and 1 of its instances run or are still ending"):
        await world.edge.call(FN)
    await asyncio.sleep(4)
    await world.edge.call(FN)
    await world.settle()
    assert len(world.instances()) == 1


async def test_a_new_revision_begins_when_the_previous_one_has_ended(world: World) -> None:
    world.node.stop_delay = 3.0
    most = 0

    async def work(function: FunctionId, instance: InstanceId) -> None:
        nonlocal most
        most = max(most, len(world.fleet.instances.lifetimes.existing(FN)))

    world.edge.work = work
    await world.deploy(notes=STRICT, **{MAX: "1"})
    await world.edge.call(FN)
    await world.deploy(notes=STRICT, **{MAX: "1"})
    await asyncio.sleep(4)
    await world.edge.call(FN)
    assert (world.awake().function.revision, most) == (2, 1)
    await world.settle()


async def test_below_its_maximum_a_revision_is_checked_beside_the_serving_one(world: World) -> None:
    await world.deploy(notes=STRICT, **{MAX: "2"})
    await world.edge.call(FN)
    world.node.fail[FN] = deque([CRASH])
    with pytest.raises(RolloutFailed, match="did not start and takes no traffic"):
        await world.deploy(notes=STRICT, **{MAX: "2"})
    await world.settle()
    assert world.awake().function.revision == 1


async def test_one_that_has_crashed_does_not_count(world: World) -> None:
    await world.deploy(notes=STRICT, **{MAX: "1"})
    await world.edge.call(FN)
    world.lost(world.instances()[0])
    await world.until(lambda: world.asleep())
    await world.edge.call(FN)
    await world.settle()
    assert len(world.instances()) == 1


async def test_an_instance_that_the_next_controller_stops_counts_until_it_has_ended(world: World) -> None:
    await world.deploy(notes=STRICT, **{MAX: "1"})
    await world.node.start(stray("fn", "x-1", revision=9))
    world.node.stop_delay = 3.0
    following = await world.restart_controller()
    with pytest.raises(Busy, match="are still ending"):
        await following.edge.call(FN)
    await asyncio.sleep(4)
    await following.edge.call(FN)
    await following.settle()
    await following.close()


async def test_its_grace_has_a_smaller_bound(world: World) -> None:
    with pytest.raises(InvalidInput, match=r"rescoldo.dev/grace: '9s' is not allowed; use 0s to 8s"):
        await world.deploy(notes={**STRICT, "rescoldo.dev/grace": "9s"})
    with pytest.raises(InvalidInput, match=r"max-strict: 'yes' is not allowed; use false or true"):
        await world.deploy(notes={"rescoldo.dev/max-strict": "yes"})


class Link(MemoryControl):
    """One worker's way to a control, which may be cut."""

    def __init__(self, control: MemoryControl) -> None:
        super().__init__()
        self._control = control

    async def grant(self, function: FunctionId, sender: str) -> Grant:
        await asyncio.sleep(0.01)
        self._check()
        found = await self._control.grant(function, sender)
        await asyncio.sleep(0.01)
        if self.away:
            raise Unreachable
        return found

    async def give_back(self, function: FunctionId, sender: str, token: str) -> None:
        self._check()
        await self._control.give_back(function, sender, token)


@dataclass
class Pair:
    """Two workers that both get calls of one function, as gateways of different opinion send them."""

    links: list[Link]
    worlds: list[World]
    most: int = 0

    async def start(self, maximum: int = 1) -> None:
        spec = FunctionSpec(
            "fn", IMAGE, labels={MAX: str(maximum)}, annotations={**STRICT, "rescoldo.dev/idle-window": "5s"}
        )
        for world in self.worlds:
            world.node.stop_delay = 5.0
            await world.add_bundle(IMAGE, DIGEST)
            await world.start()
        await self.worlds[0].store.documents.put(Deployed(Function(spec, DIGEST, 1.0)))
        await asyncio.sleep(1)

    def existing(self) -> int:
        """As a counter outside of the cluster sees them."""
        found = sum(len(world.fleet.instances.lifetimes.existing(FN)) for world in self.worlds)
        self.most = max(self.most, found)
        return found

    async def call(self, worker: int) -> bool:
        """Whether a call is served."""
        try:
            await self.worlds[worker].edge.call(FN)
        except (Busy, CallFailed):
            return False
        finally:
            self.existing()
        return True


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    control, documents = MemoryControl(), MemoryDocuments()
    made = Pair([Link(control), Link(control)], [])
    for number, link in enumerate(made.links):
        grants = Grants(link, tmp_path / str(number), f"pod-{number}", now, "this boot")
        grants.load()
        membership = Membership(lambda: True, lambda _: None, cast(Reports, Silent()), grants, Refusals())
        store = MemoryStore(MemoryDocuments(beside=documents))
        ports = FakeEdge(8), FakeNode(), store, MemorySecrets(), MemoryBundles()
        made.worlds.append(World(8, Settings("/nowhere/d", "/nowhere/r"), *ports, membership))
    yield made
    for world in made.worlds:
        await world.close()


async def test_the_second_worker_serves_once_the_first_has_given_back(pair: Pair) -> None:
    await pair.start()
    assert await pair.call(0)
    assert not await pair.call(1)
    answer = await pair.worlds[1].waker._answer(FN)
    assert answer.startswith(b"no 503 ")
    assert b"another worker may still run it" in answer
    await asyncio.sleep(15)
    assert await pair.call(1)
    assert not await pair.call(0)
    assert pair.most == 1


async def test_a_worker_that_is_cut_off_has_ended_before_another_begins(pair: Pair) -> None:
    await pair.start()
    finish = pair.worlds[0].hold_calls()
    held = asyncio.create_task(pair.call(0))
    await asyncio.sleep(1)
    pair.links[0].leave()
    begun = now()
    while not await pair.call(1):
        await asyncio.sleep(0.5)
    assert now() - begun <= WAIT_SECONDS
    assert now() - begun >= GRANT_SECONDS - 2
    assert pair.most == 1
    finish.set()
    await held


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("maximum", [1, 3])
async def test_whoever_is_called_and_cut_off_there_are_never_too_many(pair: Pair, seed: int, maximum: int) -> None:
    chance = random.Random(seed)
    await pair.start(maximum)
    served = [0, 0]
    for _ in range(600):
        for number, link in enumerate(pair.links):
            if chance.random() < 0.01:
                (link.come_back if link.away else link.leave)()
            if chance.random() < (0.7 if chance.random() < 0.5 else 0.05):
                served[number] += await pair.call(number)
        if chance.random() < 0.01:
            number = chance.randrange(2)
            pair.worlds[number] = await pair.worlds[number].restart_controller()
        await asyncio.sleep(chance.choice([0.05, 0.5, 3.0]))
        pair.existing()
    assert pair.most <= maximum
    assert min(served) > 0
