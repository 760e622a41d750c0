"""A worker keeps a minimum, and a number requested with scale, only while control renews them; on virtual time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import cast

import pytest
from control_world import CRASH, DIGEST, FN, IMAGE, World
from test_look_up import Elsewhere

from rescoldo.bundle.memory import MemoryBundles
from rescoldo.control.fleet.upkeep import KEPT_SECONDS, RENEWAL_SECONDS
from rescoldo.edge.fake import FakeEdge
from rescoldo.link.grants import Grants
from rescoldo.link.membership import Membership
from rescoldo.link.refusals import Refusals
from rescoldo.link.reports import Reports
from rescoldo.model.deployed import Deployed
from rescoldo.model.errors import NotFound
from rescoldo.model.function import Function, FunctionSpec
from rescoldo.model.names import FunctionId, function_id
from rescoldo.model.revision import Revision
from rescoldo.model.settings import Settings
from rescoldo.model.standing import PLAIN, Standing
from rescoldo.node.fake import FakeNode
from rescoldo.store.memory import MemoryDocuments, MemorySecrets, MemoryStore

pytestmark = pytest.mark.looptime

WINDOW = 20.0  # seconds for which a function stays awake uncalled


class Silent:
    """Reports that go nowhere, and grants that nobody needs."""

    async def run(self, fleet: object) -> None:
        """Nothing is told."""

    async def acquire(self, function: FunctionId) -> None:
        """Anything may start."""


@dataclass
class Worker:
    world: World
    there: MemoryDocuments  # the functions as control has them
    away: bool = False

    async def start(self) -> None:
        """Begin in the test, as a fixture's time is not virtual."""
        await self.world.add_bundle(IMAGE, DIGEST)
        await self.world.start()

    async def deploy(self, minimum: int = 0, standing: Standing = PLAIN) -> None:
        """Deploy in control."""
        labels = {"com.openfaas.scale.min": str(minimum)}
        spec = FunctionSpec("fn", IMAGE, labels=labels, annotations={"rescoldo.dev/idle-window": f"{WINDOW:g}s"})
        await self.there.put(Deployed(Function(spec, DIGEST, 1.0), standing=standing))

    async def change(self, **changes: object) -> None:
        """Change the document in control."""
        await self.there.put(replace(self.there.shared[FN], **changes))  # type: ignore[arg-type]
        await asyncio.sleep(0.1)

    async def keep(self, seconds: float = 0.0) -> None:
        """Renew for so long, as control does."""
        assert self.world.upkeep is not None
        await self.world.upkeep.keep(FN)
        for _ in range(int(seconds / RENEWAL_SECONDS)):
            await asyncio.sleep(RENEWAL_SECONDS)
            await self.world.upkeep.keep(FN)

    async def awake(self) -> int:
        """The instances, once everything has settled."""
        await asyncio.sleep(1)
        return len(await self.world.running())


@pytest.fixture
async def worker() -> AsyncIterator[Worker]:
    there = MemoryDocuments()
    membership = Membership(
        lambda: not made.away, lambda _: None, cast(Reports, Silent()), cast(Grants, Silent()), Refusals()
    )
    ports = FakeEdge(8), FakeNode(), MemoryStore(Elsewhere(there)), MemorySecrets(), MemoryBundles()
    world = World(8, Settings("/nowhere/d", "/nowhere/r"), *ports, membership)
    made = Worker(world, there)
    yield made
    await made.world.close()


async def test_a_minimum_wakes_nothing_before_its_first_renewal(worker: Worker) -> None:
    await worker.start()
    await worker.deploy(minimum=2)
    await worker.world.edge.call(FN)
    assert await worker.awake() == 2, "a wake starts the minimum"
    await asyncio.sleep(WINDOW + 2)
    assert await worker.awake() == 0
    await worker.keep()
    assert await worker.awake() == 2


async def test_a_renewal_finds_a_function_that_was_never_called_here(worker: Worker) -> None:
    await worker.start()
    await worker.deploy(minimum=2)
    await worker.keep()
    assert await worker.awake() == 2
    with pytest.raises(NotFound):
        assert worker.world.upkeep is not None
        await worker.world.upkeep.keep(function_id("other"))


async def test_a_renewal_tries_what_was_deployed_without_a_worker(worker: Worker) -> None:
    await worker.start()
    await worker.deploy(minimum=0, standing=Standing(untried=True))
    await worker.keep()
    assert await worker.awake() == 1
    assert not worker.there.shared[FN].standing.untried
    await asyncio.sleep(WINDOW + 2)
    await worker.keep()
    assert await worker.awake() == 0, "once is enough"


async def test_while_it_is_renewed_a_minimum_stays(worker: Worker) -> None:
    await worker.start()
    await worker.deploy(minimum=2)
    await worker.keep(600)
    assert await worker.awake() == 2
    assert len(worker.world.node.started) == 2


@pytest.mark.parametrize("called", [False, True])
async def test_what_is_not_renewed_sleeps_as_if_it_had_no_minimum(worker: Worker, called: bool) -> None:
    await worker.start()
    await worker.deploy(minimum=2)
    await worker.keep(60)
    await asyncio.sleep(KEPT_SECONDS - 2)
    assert await worker.awake() == 2
    if called:
        await worker.world.edge.call(FN)
        await asyncio.sleep(WINDOW - 2)
        assert await worker.awake() == 2
    await asyncio.sleep(5)
    assert await worker.awake() == 0
    await worker.world.check()


async def test_while_control_is_away_a_minimum_stays_and_the_time_does_not_count(worker: Worker) -> None:
    await worker.start()
    await worker.deploy(minimum=1)
    await worker.keep()
    worker.away = True
    await asyncio.sleep(3600)
    assert await worker.awake() == 1
    worker.away = False
    await asyncio.sleep(KEPT_SECONDS - 3)
    assert await worker.awake() == 1
    await asyncio.sleep(5)
    assert await worker.awake() == 0


async def test_the_next_controller_keeps_what_is_awake_until_it_would_have_been_renewed(worker: Worker) -> None:
    await worker.start()
    await worker.deploy(minimum=1)
    await worker.keep()
    assert await worker.awake() == 1
    worker.away = True
    worker.world = await worker.world.restart_controller()
    await asyncio.sleep(3600)
    assert await worker.awake() == 1
    worker.away = False
    await asyncio.sleep(KEPT_SECONDS + 2)
    assert await worker.awake() == 0


async def test_a_function_that_does_not_start_is_tried_by_one_task_however_often_it_is_renewed(worker: Worker) -> None:
    await worker.start()
    await worker.deploy(minimum=1)
    worker.world.node.fail[FN] = deque([CRASH] * 1000)
    await worker.keep(300)
    tried = 1000 - len(worker.world.node.fail[FN])
    assert 25 <= tried <= 40, "one attempt in ten seconds"
    worker.world.node.fail.clear()
    await asyncio.sleep(11)
    assert await worker.awake() == 1


async def test_what_a_user_scaled_to_zero_is_woken_by_a_call_alone(worker: Worker) -> None:
    await worker.start()
    await worker.deploy(minimum=1)
    await worker.keep()
    assert await worker.awake() == 1
    await worker.world.scaling.scale(FN, 0)
    await worker.keep(60)
    assert await worker.awake() == 0
    await worker.world.edge.call(FN)
    await worker.keep(60)
    assert await worker.awake() == 1


async def test_a_requested_number_counts_where_it_is_renewed(worker: Worker) -> None:
    await worker.start()
    await worker.deploy()
    await worker.keep()
    assert await worker.awake() == 0
    await worker.change(requested=3)  # at another worker, whose function this is
    assert await worker.awake() == 3, "it was renewed here a moment ago"
    await asyncio.sleep(KEPT_SECONDS + WINDOW)
    assert await worker.awake() == 0
    assert worker.there.shared[FN].requested == 3, "it sleeps here alone"
    await worker.keep()
    assert await worker.awake() == 3
    await worker.keep(WINDOW)
    assert await worker.awake() == 0, "it was renewed, and idle for its window"
    assert worker.there.shared[FN].requested == 0


async def test_a_request_that_comes_here_counts_as_a_renewal(worker: Worker) -> None:
    await worker.start()
    await worker.deploy()
    await worker.world.edge.call(FN)
    await worker.world.scaling.scale(FN, 3)
    assert await worker.awake() == 3
    assert worker.there.shared[FN].requested == 3
    await worker.keep(WINDOW)
    assert (await worker.awake(), worker.there.shared[FN].requested) == (0, 0)


async def test_a_renewal_brings_an_awake_function_to_its_number(worker: Worker) -> None:
    await worker.start()
    await worker.deploy()
    await worker.world.edge.call(FN)
    await asyncio.sleep(2)
    await worker.change(requested=3)
    assert await worker.awake() == 1
    await worker.keep()
    assert await worker.awake() == 3


async def test_a_pause_elsewhere_is_taken_over_and_ended(worker: Worker) -> None:
    await worker.start()
    await worker.deploy(minimum=1)
    await worker.keep()
    assert await worker.awake() == 1
    await worker.change(standing=Standing(paused=True))
    await worker.keep(30)
    assert await worker.awake() == 0
    await worker.change(standing=Standing())
    assert await worker.awake() == 1
    await worker.world.check()


async def test_a_worker_that_lost_a_function_starts_nothing_more_for_it(worker: Worker) -> None:
    """Calls and renewals arrive at the owner; here is only what others save."""
    await worker.start()
    await worker.deploy(minimum=2)
    await worker.keep(30)
    await worker.world.edge.call(FN)
    await asyncio.sleep(KEPT_SECONDS + WINDOW)
    assert await worker.awake() == 0
    before = len(worker.world.node.started)
    function = worker.there.shared[FN].function
    await worker.change(standing=Standing(paused=True, untried=True))
    await worker.change(function=replace(function, revision=2), revisions=(Revision.of(function),))
    await worker.change(standing=Standing(untried=True))
    await worker.change(standing=Standing(failure="it crashed there"), requested=5)
    await worker.change(function=replace(worker.there.shared[FN].function, traffic={1: 50, 2: 50}))
    await asyncio.sleep(60)
    worker.world = await worker.world.restart_controller()
    await asyncio.sleep(600)
    assert len(worker.world.node.started) == before
    await worker.world.edge.call(FN)
    assert len(worker.world.node.started) > before, "a call is for whom it reaches"


async def test_others_try_what_they_have_deployed_and_resumed(worker: Worker) -> None:
    await worker.start()
    await worker.deploy(standing=Standing(paused=True, untried=True))
    await worker.world.until(lambda: FN in worker.world.edge.routes)
    assert worker.world.fleet.entries[FN].standing.untried
    await asyncio.sleep(10)
    assert worker.world.node.started == []
    await worker.change(standing=Standing(untried=True))
    worker.world = await worker.world.restart_controller()
    await asyncio.sleep(60)
    assert worker.world.node.started == []
    await worker.world.edge.call(FN)
    assert len(worker.world.node.started) == 1


async def test_what_is_awake_when_it_is_lost_grows_no_more(worker: Worker) -> None:
    await worker.start()
    await worker.deploy(minimum=2)
    await worker.keep()
    assert await worker.awake() == 2
    await worker.change(requested=5)
    assert await worker.awake() == 5, "it may still be the owner"
    await asyncio.sleep(KEPT_SECONDS)
    await worker.change(requested=7)
    await asyncio.sleep(60)
    assert await worker.awake() == 0
    assert len(worker.world.node.started) == 5


async def test_a_platform_that_stands_alone_needs_no_renewal(world: World) -> None:
    assert world.upkeep is None
    await world.deploy(minimum=2, window="1s")
    await asyncio.sleep(300)
    assert len(world.instances()) == 2
