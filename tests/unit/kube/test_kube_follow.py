"""Following the objects of a kind through whatever happens to an API server, in virtual time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest

from rescoldo.kube.errors import Asked, ClusterUnavailable, Expired
from rescoldo.kube.fake import FakeCluster
from rescoldo.kube.follow import Changed, Follower, Gone, Snapshot
from rescoldo.kube.protocol import Object, Resource
from rescoldo.model.errors import RescoldoError

pytestmark = pytest.mark.looptime

THINGS = Resource("rescoldo.dev", "v1", "Thing", "things", has_status=True)


def thing(name: str, namespace: str = "blue", **spec: Any) -> Object:
    return {"metadata": {"name": name, "namespace": namespace, "labels": {"of": namespace}}, "spec": spec}


def name_and_spec(obj: Object) -> tuple[str, Object]:
    return obj["metadata"]["name"], obj.get("spec", {})


class TimedCluster(FakeCluster):
    """A fake that notes when it was asked."""

    def __init__(self) -> None:
        super().__init__(page=2)
        self.times: list[float] = []

    async def _ask(self, asked: Asked) -> None:
        self.times.append(asyncio.get_running_loop().time())
        await super()._ask(asked)


class World:
    """A follower of a fake cluster, and what it has told."""

    def __init__(self, chance: float = 0.0, **where: str) -> None:
        self.cluster = TimedCluster()
        self.clock = asyncio.get_running_loop().time
        self.follower: Follower[tuple[str, Object]] = Follower(
            self.cluster, THINGS, name_and_spec, clock=self.clock, chance=lambda: chance, **where
        )
        self.told: asyncio.Queue[object] = asyncio.Queue()

    async def create(self, name: str, **spec: Any) -> Object:
        return await self.cluster.create(THINGS, thing(name, **spec))

    async def patch(self, name: str, **spec: Any) -> Object:
        return await self.cluster.patch(THINGS, name, {"spec": spec}, "blue")

    async def delete(self, name: str) -> None:
        await self.cluster.delete(THINGS, name, "blue")

    async def next(self) -> object:
        async with asyncio.timeout(100):
            return await self.told.get()

    def asked(self, *verbs: str) -> list[str]:
        return [asked.verb for asked in self.cluster.requests if asked.verb in (verbs or ("list", "watch"))]

    async def settled(self) -> None:
        """Wait until a watch is open and everything in it was told."""
        async with asyncio.timeout(100):
            while not self.cluster.watches:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.01)

    @asynccontextmanager
    async def following(self) -> AsyncIterator[World]:
        async def follow() -> None:
            async for change in self.follower.changes():
                self.told.put_nowait(change)

        task = asyncio.create_task(follow())
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.wait([task])
        assert self.told.empty(), "told what no test waited for"


async def test_first_all_objects_are_told_then_what_changes() -> None:
    world = World()
    for name in ("a", "b", "c"):
        await world.create(name)
    async with world.following():
        assert await world.next() == Snapshot([("a", {}), ("b", {}), ("c", {})])
        created = await world.create("d", size=1)
        assert await world.next() == Changed(("d", {"size": 1}))
        await world.patch("d", size=2)
        assert await world.next() == Changed(("d", {"size": 2}))
        await world.delete("d")
        assert await world.next() == Gone("blue", "d", created["metadata"]["uid"])
    assert world.cluster.watches == 0


async def test_nothing_is_an_empty_snapshot() -> None:
    async with World().following() as world:
        assert await world.next() == Snapshot([])


async def test_only_the_namespace_and_the_labels_that_were_asked_for_are_told() -> None:
    world = World(namespace="blue", labels="of=blue")
    await world.create("a")
    await world.cluster.create(THINGS, thing("b", "red"))
    async with world.following():
        assert await world.next() == Snapshot([("a", {})])
        await world.cluster.create(THINGS, thing("c", "red"))
        await world.cluster.patch(THINGS, "a", {"metadata": {"labels": {"of": "red"}}}, "blue")
        assert isinstance(await world.next(), Gone)


async def test_a_watch_that_ends_goes_on_at_once_without_a_list() -> None:
    async with World().following() as world:
        await world.next()
        await asyncio.sleep(95)  # three watches of 30 s
        assert world.asked() == ["list", "watch", "watch", "watch", "watch"]
        await world.create("a")
        assert await world.next() == Changed(("a", {}))


async def test_after_a_lost_connection_the_watch_goes_on_and_tells_what_was_missed() -> None:
    world = World()
    await world.create("a")
    await world.create("b")
    async with world.following():
        await world.next()
        await world.settled()
        world.cluster.break_watches(ClusterUnavailable())
        await world.patch("a", size=1)
        await world.delete("b")
        assert await world.next() == Changed(("a", {"size": 1}))
        assert isinstance(await world.next(), Gone)
        assert world.asked() == ["list", "watch", "watch"]


async def change_behind(world: World, lose: Callable[[], None]) -> Object:
    """Change things of which no watch tells any more."""
    old = await world.cluster.get(THINGS, "replaced", "blue")
    lose()
    await world.patch("changed", size=1)
    await world.delete("gone")
    await world.delete("replaced")
    await world.create("replaced", size=2)
    await world.create("new")
    world.cluster.compact()
    return old


@pytest.mark.parametrize("error", [None, Expired(), ClusterUnavailable()], ids=["its end", "ERROR event", "a cut"])
async def test_where_the_changes_are_lost_a_list_tells_the_differences(error: RescoldoError | None) -> None:
    world = World()
    for name in ("changed", "gone", "replaced", "same"):
        await world.create(name)
    gone = await world.cluster.get(THINGS, "gone", "blue")
    async with world.following():
        assert isinstance(await world.next(), Snapshot)
        await world.settled()
        old = await change_behind(
            world, lambda: world.cluster.break_watches(error) if error else world.cluster.end_watches()
        )
        told = [await world.next() for _ in range(5)]
        assert told[:2] == [
            Gone("blue", "gone", gone["metadata"]["uid"]),
            Gone("blue", "replaced", old["metadata"]["uid"]),
        ]
        assert told[2:] == [Changed(("changed", {"size": 1})), Changed(("new", {})), Changed(("replaced", {"size": 2}))]
        await world.settled()
        assert len(world.asked("list")) == 4, "two lists of two pages each"


async def test_a_list_that_is_lost_half_way_tells_nothing() -> None:
    world = World()
    for name in ("a", "b", "c"):
        await world.create(name)
    pages = 0

    async def ask(asked: object) -> None:
        nonlocal pages
        pages += 1
        if pages == 2:
            raise Expired("the continue token has expired")

    world.cluster._ask = ask  # type: ignore[method-assign]
    async with world.following():
        assert await world.next() == Snapshot([("a", {}), ("b", {}), ("c", {})])


@pytest.mark.parametrize(("chance", "longest"), [(0.0, 10.0), (1.0, 15.0)])
async def test_an_api_server_that_is_away_is_asked_less_and_less(chance: float, longest: float) -> None:
    world = World(chance)
    async with world.following():
        await world.next()
        await world.settled()
        world.cluster.go_away()
        before = len(world.cluster.times)
        await asyncio.sleep(120 * (1 + chance / 2))
        pauses = [later - earlier for earlier, later in pairwise(world.cluster.times[before : before + 12])]
        factor = 1 + chance / 2
        expected = [1.0, 1.0, 2.0, 4.0, 8.0, *([10.0] * 5)]
        assert pauses == pytest.approx([*(pause * factor for pause in expected), longest], abs=0.05)
        world.cluster.come_back()
        await asyncio.sleep(longest + 0.1)
        assert "list" not in world.asked()[1:], "a restart of the API server costs it one watch"
        await world.create("a")
        assert await world.next() == Changed(("a", {}))


async def test_a_watch_that_ends_at_once_is_not_opened_again_and_again() -> None:
    world = World()
    async with world.following():
        await world.next()
        end = world.clock() + 60
        while world.clock() < end:
            world.cluster.end_watches()
            await asyncio.sleep(0.1)
        assert len(world.asked("watch")) < 15


async def test_a_retry_after_is_honoured() -> None:
    world = World()
    async with world.following():
        await world.next()
        await world.settled()
        world.cluster.break_watches(ClusterUnavailable(retry_after=40.0))
        await asyncio.sleep(39)
        assert world.asked() == ["list", "watch"]
        await asyncio.sleep(2)
        assert world.asked() == ["list", "watch", "watch"]


async def test_how_old_the_knowledge_is_can_be_asked() -> None:
    world = World()
    assert world.follower.unconfirmed() == float("inf")
    async with world.following():
        await world.next()
        oldest = 0.0
        for _ in range(1000):
            await asyncio.sleep(0.1)
            oldest = max(oldest, world.follower.unconfirmed())
        assert 25 < oldest < 31
        world.cluster.bookmark()
        await asyncio.sleep(0.01)
        assert world.follower.unconfirmed() < 0.1
        world.cluster.go_away()
        await asyncio.sleep(60)
        assert world.follower.unconfirmed() == pytest.approx(60, abs=0.1)
        world.cluster.come_back()
        await asyncio.sleep(11)
        assert world.follower.unconfirmed() < 11


@pytest.mark.parametrize(("error", "after"), [(Expired(), 1.5), (ClusterUnavailable(), 0.5)])
async def test_a_watch_that_opens_and_breaks_before_it_tells_what_was_missed_confirms_nothing(
    error: RescoldoError, after: float
) -> None:
    world = World()
    async with world.following():
        await world.next()
        await world.settled()
        await asyncio.sleep(10)
        world.cluster.forbidden = {"list"}
        world.cluster.break_watches(ClusterUnavailable())
        await asyncio.sleep(1.0 + after)
        assert world.cluster.watches and world.follower.unconfirmed() < after + 0.1
        world.cluster.break_watches(error)
        await asyncio.sleep(0.5)
        assert world.follower.unconfirmed() == pytest.approx(11.5 + after, abs=0.1)


async def test_a_problem_is_told_and_logged_once_and_its_end_too(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    world = World()
    world.cluster.forbidden = {"list"}
    async with world.following():
        await asyncio.sleep(60)
        assert world.follower.problem == "not allowed to list things.rescoldo.dev in all namespaces"
        world.cluster.forbidden = set()
        assert await world.next() == Snapshot([])
        await world.settled()
        assert world.follower.problem == ""
    assert [record.getMessage() for record in caplog.records] == [
        "things.rescoldo.dev are not followed at the moment: not allowed to list things.rescoldo.dev in all namespaces",
        "things.rescoldo.dev are followed again",
    ]


async def test_without_the_right_to_watch_lists_tell_the_changes(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    world.cluster.forbidden = {"watch"}
    async with world.following():
        assert await world.next() == Snapshot([])
        await asyncio.sleep(60)
        await world.create("a")
        assert await world.next() == Changed(("a", {}))
        assert world.follower.unconfirmed() < 1
        assert len(world.asked("list")) < 15
        assert "not allowed to watch" in world.follower.problem
        world.cluster.forbidden = set()
        await world.settled()
        assert world.follower.problem == ""
    assert len(caplog.records) == 2


async def test_bookmarks_are_where_the_next_watch_begins() -> None:
    world = World(namespace="blue")
    async with world.following():
        await world.next()
        await world.settled()
        await world.cluster.create(THINGS, thing("hidden", "red"))
        world.cluster.compact()
        world.cluster.bookmark()
        await asyncio.sleep(0.1)
        world.cluster.break_watches(ClusterUnavailable())
        await world.create("a")
        assert await world.next() == Changed(("a", {}))
        assert world.asked("list") == ["list"]
