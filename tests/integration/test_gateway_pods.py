"""The agent with a real HAProxy: changes of pods under load, and restarts of either. The API server is the fake."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from rescoldo.gateway import config
from rescoldo.gateway.agent import Agent
from rescoldo.gateway.pods import PODS, WORKERS
from rescoldo.gateway.secrets import Secrets
from rescoldo.kube.fake import FakeCluster
from support.patience import until
from support.real_edge import Message, ok
from support.real_gateway import RealGateway, Respond

pytestmark = [pytest.mark.slow, pytest.mark.timeout(90)]

LABELS = dict(part.split("=") for part in WORKERS.split(","))


class World:
    """A gateway, a cluster with workers' pods, and clients that call without a pause."""

    def __init__(self, real: RealGateway) -> None:
        self.real = real
        self.cluster = FakeCluster()
        self.failed: list[str] = []
        self.calls = 0
        self.longest = 0.0

    async def add(self, *names: str) -> None:
        """Start workers, with a pod each."""
        for name in names:
            worker = await self.real.worker(name, self.work(name))
            meta = {"name": name, "namespace": "blue", "labels": LABELS}
            await self.cluster.create(
                PODS, {"metadata": meta, "status": {"podIP": worker.place.ip, "phase": "Running"}}
            )

    def work(self, name: str) -> Respond:
        async def respond(_: Message) -> bytes:
            await asyncio.sleep(0.02)
            return ok(name)

        return respond

    async def begin_deleting(self, name: str) -> None:
        await self.cluster.patch(PODS, name, {"metadata": {"finalizers": ["kubelet/test"]}}, "blue")
        await self.cluster.delete(PODS, name, "blue")

    async def delete(self, name: str) -> None:
        await self.cluster.patch(PODS, name, {"metadata": {"finalizers": []}}, "blue")

    @asynccontextmanager
    async def agent(self) -> AsyncIterator[None]:
        agent = Agent(self.real.settings, self.cluster, self.real.proxy, secrets=Secrets)
        running = asyncio.create_task(agent.run())
        try:
            yield
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    @asynccontextmanager
    async def load(self) -> AsyncIterator[None]:
        """Call from 12 clients, GET and POST; the calls that fail are in `failed`."""
        done = asyncio.Event()
        clients = [asyncio.create_task(self._client(number, done)) for number in range(12)]
        try:
            yield
        finally:
            done.set()
            await asyncio.gather(*clients)

    async def _client(self, number: int, done: asyncio.Event) -> None:
        client = await self.real.connect()
        method, body = (("GET", None), ("POST", b"x" * 100))[number % 2]
        while not done.is_set():
            began = time.monotonic()
            answer = await client.call(f"/function/fn-{self.calls % 40}.blue", method=method, body=body)
            self.longest = max(self.longest, time.monotonic() - began)
            self.calls += 1
            if answer.status != 200:
                self.failed.append(f"{method} {answer.status} {answer.text}")
                client = await self.real.connect()

    async def called(self, count: int) -> None:
        """Return after this many more calls."""
        goal = self.calls + count
        await until(lambda: self.calls >= goal)

    async def takes_part(self) -> bool:
        if (await self.real.call("/healthz")).status != 200:
            return False
        assert await self.real.steady(), "other gateways choose otherwise"
        return True

    async def is_down(self, name: str) -> bool:
        return (await self.real.status(name)).startswith("DOWN")

    async def has(self, *names: str) -> bool:
        """Whether these are the servers, all up."""
        rows = {row["svname"]: row["status"] for row in await self.real.stat()}
        return rows == dict.fromkeys(names, "UP")


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with RealGateway(slowstart=0.3) as real:
        yield World(real)


async def test_no_call_fails_when_workers_come_and_go(world: World) -> None:
    await world.add("w1", "w2", "w3")
    async with world.agent():
        await until(world.takes_part)
        async with world.load():
            await world.called(200)
            await world.add("w4")
            await until(lambda: world.has("w1", "w2", "w3", "w4"))
            await world.called(200)
            await world.begin_deleting("w1")  # told by the API server
            await world.called(100)
            world.real.workers["w2"].health = 404  # told by its checks
            await world.called(300)
            await world.begin_deleting("w2")
            await world.delete("w1")
            await world.delete("w2")
            await until(lambda: world.has("w3", "w4"))
            await world.called(200)
    assert world.failed == []
    assert world.real.workers["w1"].requests and world.real.workers["w4"].requests


async def test_the_deletion_of_a_pod_is_heard_by_haproxy_within_milliseconds(world: World) -> None:
    await world.add("w1", "w2")
    async with world.agent():
        await until(world.takes_part)
        took = []
        for name, state in (("w1", "DRAIN"), ("w2", "DRAIN")):
            began = time.monotonic()
            await world.begin_deleting(name)
            while state not in await world.real.status(name):
                await asyncio.sleep(0.001)
            took.append(time.monotonic() - began)
        assert min(took) < 0.1


async def test_only_posts_in_flight_fail_when_a_worker_dies(world: World) -> None:
    await world.add("w1", "w2", "w3")
    async with world.agent():
        await until(world.takes_part)
        async with world.load():
            await world.called(200)
            world.real.workers["w1"].crash()
            await world.called(300)
    assert {failure.split()[0] for failure in world.failed} <= {"POST"}
    assert len(world.failed) <= 6, "at most the six POSTs in flight"


async def test_only_posts_in_flight_fail_when_a_worker_is_cut_off(world: World) -> None:
    await world.add("w1", "w2", "w3")
    async with world.agent():
        await until(world.takes_part)
        async with world.load():
            await world.called(200)
            world.real.workers["w1"].fall_silent()
            await until(lambda: world.is_down("w1"))
            await world.called(300)
    assert {failure.split()[0] for failure in world.failed} <= {"POST"}
    assert len(world.failed) <= 6, "at most the six POSTs in flight"
    assert world.longest < 1.0


async def test_haproxy_restarts_without_agent_and_api_server(world: World) -> None:
    await world.add("w1", "w2")
    async with world.agent():
        await until(world.takes_part)
    owners = await world.real.owners(40)
    world.cluster.go_away()
    await world.real.kill()
    await world.real.start()
    assert await world.real.owners(40) == owners
    async with world.agent():  # an agent that hears nothing leaves it alone
        assert await world.real.owners(40) == owners
        world.cluster.come_back()
        await world.add("w3")
        await until(lambda: world.has("w1", "w2", "w3"))


async def test_a_restarted_haproxy_gets_what_it_missed(world: World) -> None:
    await world.add("w1")
    async with world.agent():
        await until(world.takes_part)
        await world.real.kill()
        await world.add("w2")
        world.real.settings.pools_file.write_text(  # as if the files had been lost
            "".join(f"backend {pool} from workers\n" for pool in config.pool_names(world.real.settings))
        )
        await world.real.start()
        await until(lambda: world.has("w1", "w2"))
        assert (await world.real.call("/function/fn.blue")).status == 200
