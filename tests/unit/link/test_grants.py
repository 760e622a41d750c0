"""A worker's grants: asked for, renewed, kept for the next controller, given back; on virtual time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Set
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from rescoldo.link.fake import MemoryControl
from rescoldo.link.grants import DENIED_SECONDS, RENEW_SECONDS, STOP_SECONDS, Grants
from rescoldo.model.errors import Busy
from rescoldo.model.names import FunctionId, function_id
from rescoldo.policy.grants import GRANT_SECONDS, WAIT_SECONDS, Grant

pytestmark = pytest.mark.looptime

FN = function_id("fn")


def now() -> float:
    return asyncio.get_running_loop().time()


@dataclass
class Worker:
    """Grants over a fleet that only has numbers."""

    control: MemoryControl
    folder: Path
    name: str = "pod-1"
    boot: str = "this"
    here: dict[FunctionId, int] = field(default_factory=dict)
    ended: list[float] = field(default_factory=list)  # when instances were stopped for want of a grant
    let: list[float] = field(default_factory=list)  # when they were let go
    task: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self.grants = Grants(self.control, self.folder / self.name, self.name, now, self.boot)
        self.grants.load()

    def running(self, held: Set[FunctionId]) -> Set[FunctionId]:
        return {function for function, number in self.here.items() if number}

    async def end(self, function: FunctionId) -> None:
        self.ended.append(now())
        await asyncio.sleep(5)  # their grace
        self.here.pop(function)

    async def let_go(self, function: FunctionId) -> None:
        self.let.append(now())
        await asyncio.sleep(1)
        self.here.pop(function, None)

    async def start(self) -> None:
        """Start an instance."""
        await self.grants.acquire(FN)
        self.here[FN] = self.here.get(FN, 0) + 1

    def begin(self) -> None:
        self.task = asyncio.create_task(self.grants.run(self))

    async def close(self) -> None:
        """End this process; its instances stay."""
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)

    def files(self) -> list[str]:
        return sorted(path.name for path in (self.folder / self.name).glob("*.json"))


@dataclass
class Cluster:
    control: MemoryControl
    folder: Path
    workers: list[Worker] = field(default_factory=list)

    def worker(self, name: str, **more: str) -> Worker:
        """Begin a process of a worker."""
        made = Worker(self.control, self.folder, name, **more)
        made.begin()
        self.workers.append(made)
        return made


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    made = Cluster(MemoryControl(), tmp_path)
    yield made
    for worker in made.workers:
        await worker.close()


async def test_a_grant_is_asked_for_once_and_renewed_while_an_instance_runs(cluster: Cluster) -> None:
    one = cluster.worker("one")
    asked = 0
    grant = cluster.control.grant

    async def counted(function: FunctionId, sender: str) -> Grant:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.01)
        return await grant(function, sender)

    cluster.control.grant = counted  # type: ignore[method-assign]
    await asyncio.gather(*(one.start() for _ in range(10)))
    assert (asked, one.here[FN]) == (1, 10)
    await asyncio.sleep(300)
    assert (one.ended, 25 <= asked <= 31) == ([], True)
    with pytest.raises(Busy):
        await cluster.worker("two").start()


async def test_without_a_grant_nothing_starts_and_the_reason_is_told(cluster: Cluster) -> None:
    one, two = cluster.worker("one"), cluster.worker("two")
    await one.start()
    before = cluster.control._tokens
    for _ in range(50):
        with pytest.raises(Busy, match=r"fn\.openfaas-fn has max-strict, .* another worker may still run it") as found:
            await two.start()
    assert cluster.control._tokens == before + 1, "the answer holds for a moment"
    assert WAIT_SECONDS - 1 <= found.value.retry_after <= WAIT_SECONDS
    cluster.control.leave()
    await asyncio.sleep(DENIED_SECONDS)
    with pytest.raises(Busy, match="cannot be reached now"):
        await two.start()


async def test_it_is_given_back_when_nothing_is_left_here(cluster: Cluster) -> None:
    one, two = cluster.worker("one"), cluster.worker("two")
    await one.start()
    assert one.files() == [f"{FN}.json"]
    one.here.clear()
    await asyncio.sleep(2)
    assert one.files() == []
    await two.start()
    assert two.here == {FN: 1}


async def test_one_that_is_wanted_elsewhere_is_let_go_and_given_back(cluster: Cluster) -> None:
    one, two = cluster.worker("one"), cluster.worker("two")
    await one.start()
    with pytest.raises(Busy):
        await two.start()
    await asyncio.sleep(RENEW_SECONDS + 4)
    assert (len(one.let), one.here, one.ended) == (1, {}, [])
    await two.start()


async def test_a_worker_that_still_gets_calls_lets_go_all_the_same(cluster: Cluster) -> None:
    """Gateways disagree about the owner: both workers get calls, ten a second."""
    one, two = cluster.worker("one"), cluster.worker("two")
    await one.start()
    starts: list[str] = []

    async def call(worker: Worker) -> None:
        while True:
            with suppress(Busy):
                if not worker.here.get(FN):
                    await worker.start()
                    starts.append(worker.name)
            await asyncio.sleep(0.1)

    calls = [asyncio.create_task(call(worker)) for worker in (one, two)]
    await asyncio.sleep(RENEW_SECONDS + 4)
    for task in calls:
        task.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    assert starts == ["two"]
    assert (one.here, one.ended) == ({}, [])


async def test_instances_have_ended_before_a_grant_that_cannot_be_renewed_ends(cluster: Cluster) -> None:
    one = cluster.worker("one")
    asked = now()
    await one.start()
    cluster.control.leave()
    await asyncio.sleep(GRANT_SECONDS - STOP_SECONDS - 0.1)
    await one.start()
    await asyncio.sleep(0.2)
    with pytest.raises(Busy):
        await one.start()
    await asyncio.sleep(10)
    assert one.here == {}
    [ended] = one.ended
    assert ended + 5 <= asked + GRANT_SECONDS - 2


@pytest.mark.parametrize("away", [5.0, 9.0])
async def test_a_control_that_is_away_for_a_moment_stops_nothing(cluster: Cluster, away: float) -> None:
    one = cluster.worker("one")
    await one.start()
    for _ in range(10):
        await asyncio.sleep(RENEW_SECONDS - 7)
        cluster.control.leave()
        await asyncio.sleep(away)
        cluster.control.come_back()
        await asyncio.sleep(3)
    assert (one.ended, one.here) == ([], {FN: 1})


async def test_the_next_controller_goes_on_with_the_grant(cluster: Cluster) -> None:
    one = cluster.worker("one")
    await one.start()
    await one.close()
    following = cluster.worker("one")
    following.here = one.here
    cluster.control.leave()
    await asyncio.sleep(GRANT_SECONDS - STOP_SECONDS - 1)
    assert following.ended == []
    cluster.control.come_back()
    await asyncio.sleep(60)
    assert following.ended == [], "it is the same worker to control"
    with pytest.raises(Busy):
        await cluster.worker("two").start()


@pytest.mark.parametrize("late", [True, False])
async def test_the_next_controller_ends_at_once_what_has_no_grant(cluster: Cluster, late: bool) -> None:
    one = cluster.worker("one")
    await one.start()
    await one.close()
    if late:
        await asyncio.sleep(GRANT_SECONDS)
        following = cluster.worker("one")
    else:
        following = cluster.worker("one", boot="another")
    following.here = dict(one.here)
    await asyncio.sleep(0.1)
    assert len(following.ended) == 1


async def test_what_is_damaged_is_no_grant(cluster: Cluster) -> None:
    one = cluster.worker("one")
    await one.start()
    await one.close()
    path = cluster.folder / "one" / f"{FN}.json"
    path.with_suffix(".new").write_text("{")
    path.write_text(json.dumps({**json.loads(path.read_text()), "until": "never"}))
    assert Worker(cluster.control, cluster.folder, "one").grants._held == {}
    assert sorted(one.name for one in path.parent.iterdir()) == ["sender"]


async def test_an_answer_that_comes_too_late_is_no_grant(cluster: Cluster) -> None:
    grant = cluster.control.grant

    async def slow(function: FunctionId, sender: str) -> Grant:
        found = await grant(function, sender)
        await asyncio.sleep(GRANT_SECONDS - STOP_SECONDS)
        return found

    cluster.control.grant = slow  # type: ignore[method-assign]
    with pytest.raises(Busy, match="too late"):
        await cluster.worker("one").start()


async def test_one_that_cannot_be_written_is_not_used(cluster: Cluster) -> None:
    one = cluster.worker("one")
    (cluster.folder / "one" / f"{FN}.new").mkdir()
    with pytest.raises(Busy, match="max-strict"):
        await one.start()
    assert one.grants._held == {}


def test_the_machines_clock_and_boot_are_used(tmp_path: Path) -> None:
    grants = Grants(MemoryControl(), tmp_path / "grants", "pod")
    grants.load()
    assert len(grants._boot) == 36
    assert 0 < grants._clock() <= grants._clock()
    assert (tmp_path / "grants" / "sender").read_text().startswith("pod/")
