"""Functions' secrets as Secrets of Kubernetes: which ones functions see, and what memory knows of them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest

from rescoldo.cluster.identities_kept import LABELS as PLATFORM
from rescoldo.cluster.secret_objects import CREATED
from rescoldo.cluster.secrets import KubeSecrets, SecretName, SecretsUnavailable
from rescoldo.cluster.secrets_followed import MOST_KEPT
from rescoldo.install.names import FUNCTION_SECRET
from rescoldo.kube.fake import FakeCluster
from rescoldo.kube.protocol import Object, Resource
from rescoldo.kube.secrets import SECRETS, encoded, secret_object, values_of
from rescoldo.model.errors import Conflict, InvalidInput, NotFound, RescoldoError, StoreError, TooLarge

pytestmark = pytest.mark.looptime

OPEN = {"rescoldo.dev/secret": "true"}


class World:
    """A cluster with the followed namespaces blue and red, and what others do by kubectl."""

    def __init__(self, cluster: FakeCluster | None = None, told: Path | None = None) -> None:
        self.cluster = cluster or FakeCluster()
        self.secrets = KubeSecrets(self.cluster, ["blue", "red"], told)
        self.told: list[str] = []

    @asynccontextmanager
    async def followed(self) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(self.secrets.run()), asyncio.create_task(self._listen())]
        await asyncio.sleep(1)
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _listen(self) -> None:
        async for changed in self.secrets.changes():
            assert isinstance(changed, SecretName)
            self.told.append(f"{changed.namespace}/{changed.name}")

    async def news(self) -> list[str]:
        """What was told since the last time."""
        await asyncio.sleep(1)
        told, self.told = self.told, []
        return told

    async def make(self, name: str, labels: Mapping[str, str] = OPEN, **values: bytes) -> None:
        await self.cluster.create(SECRETS, secret_object(name, "blue", values, labels), "kubectl")

    async def patch(self, name: str, **change: Any) -> None:
        await self.cluster.patch(SECRETS, name, change, "blue", "kubectl")

    async def give(self, name: str, **values: bytes) -> None:
        await self.patch(name, data=encoded(values))

    async def values(self, name: str) -> dict[str, bytes]:
        return values_of(await self.cluster.get(SECRETS, name, "blue"))

    async def value(self, name: str) -> bytes:
        return (await self.secrets.values("blue", [name]))[name]


@pytest.fixture
async def world() -> World:
    return World()


# -- which ones functions see


@pytest.mark.parametrize("followed", [False, True])
async def test_a_secret_without_the_label_is_neither_seen_nor_touched(world: World, followed: bool) -> None:
    await world.make("key", labels={}, value=b"mine")
    async with world.followed() if followed else nullcontext():
        assert await world.secrets.names("blue") == []
        with pytest.raises(NotFound, match=r"`kubectl label secret key -n blue rescoldo.dev/secret=true` opens it"):
            await world.value("key")
        with pytest.raises(Conflict, match=r"kubectl label secret key -n blue rescoldo.dev/secret=true"):
            await world.secrets.save("blue", "key", b"other")
        await world.secrets.delete("blue", "key")
        await world.secrets.delete_namespace("blue")
    assert await world.values("key") == {"value": b"mine"}


@pytest.mark.parametrize("followed", [False, True])
async def test_the_platforms_own_secrets_stay_closed_with_the_label(world: World, followed: bool) -> None:
    await world.make("rescoldo-identity", labels={**PLATFORM, **OPEN}, value=b"mine")
    async with world.followed() if followed else nullcontext():
        assert await world.secrets.names("blue") == []
        with pytest.raises(NotFound):
            await world.value("rescoldo-identity")
        with pytest.raises(Conflict):
            await world.secrets.save("blue", "rescoldo-identity", b"other")
        await world.secrets.delete("blue", "rescoldo-identity")
    assert await world.values("rescoldo-identity") == {"value": b"mine"}


async def test_one_that_does_not_exist_is_named_with_the_remedy(world: World) -> None:
    with pytest.raises(NotFound, match=r"namespace blue has no secret key: .*`rescoldo secret create key --from-file"):
        await world.value("key")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"key": b"1", "value": b"2", "other": b"3"}, b"1"),
        ({"value": b"2", "other": b"3"}, b"2"),
        ({"other": b"3"}, b"3"),
    ],
)
async def test_functions_get_the_key_of_the_secrets_name_else_value_else_the_only_one(
    world: World, values: dict[str, bytes], expected: bytes
) -> None:
    await world.make("key", **values)
    assert await world.value("key") == expected
    async with world.followed():
        assert await world.value("key") == expected
        changed = next(name for name, value in values.items() if value == expected)
        await world.secrets.save("blue", "key", b"new")
        assert await world.values("key") == {**values, changed: b"new"}
        assert await world.value("key") == b"new"


@pytest.mark.parametrize("values", [{}, {"a": b"s3cret", "b": b"s3cret"}])
async def test_one_whose_keys_do_not_say_which_value_is_meant_names_them(
    world: World, values: dict[str, bytes]
) -> None:
    await world.make("key", **values)
    async with world.followed():
        assert await world.secrets.names("blue") == ["key"]
        with pytest.raises(InvalidInput, match=f"its keys: {', '.join(values) or 'none'}$"):
            await world.value("key")
        await world.secrets.save("blue", "key", b"new")
        assert await world.value("key") == b"new"
        assert await world.values("key") == {**values, "value": b"new"}


async def test_what_control_saves_is_open_and_no_manifest_of_ours(world: World) -> None:
    await world.secrets.save("blue", "key", b"x")
    assert (await world.cluster.get(SECRETS, "key", "blue"))["metadata"]["labels"] == {**OPEN, **CREATED}


async def test_names_and_values_are_checked_before_anything_is_asked(world: World) -> None:
    for name in ("../pods/a", "a/b", "", "A"):
        with pytest.raises(InvalidInput):
            await world.value(name)
        with pytest.raises(InvalidInput):
            await world.secrets.delete("blue", name)
        with pytest.raises(InvalidInput):
            await world.secrets.save("blue", name, b"x")
    with pytest.raises(InvalidInput, match="is empty"):
        await world.secrets.save("blue", "key", b"")
    with pytest.raises(TooLarge, match="at most 1048576"):
        await world.secrets.save("blue", "key", b"x" * (2**20 + 1))
    assert world.cluster.requests == []


# -- what memory knows


async def test_known_values_need_no_request(world: World) -> None:
    await world.make("before", value=b"1")
    async with world.followed():
        await world.secrets.save("blue", "mine", b"2")
        await world.make("theirs", value=b"3")
        await asyncio.sleep(1)
        world.cluster.requests.clear()
        found = await world.secrets.values("blue", ["before", "mine", "theirs"])
        assert found == {"before": b"1", "mine": b"2", "theirs": b"3"}
        assert await world.secrets.names("blue") == ["before", "mine", "theirs"]
        assert world.cluster.requests == []


async def test_a_large_value_is_not_kept_in_memory(world: World) -> None:
    async with world.followed():
        await world.make("theirs", value=b"x" * (MOST_KEPT + 1))
        await world.secrets.save("blue", "mine", b"y" * (MOST_KEPT + 1))
        await world.secrets.save("blue", "small", b"z" * MOST_KEPT)
        await asyncio.sleep(1)
        world.cluster.requests.clear()
        assert len(await world.value("theirs")) == len(await world.value("mine")) == MOST_KEPT + 1
        assert len(world.cluster.requests) == 2
        assert len(await world.value("small")) == MOST_KEPT
        assert len(world.cluster.requests) == 2


async def test_one_that_the_watch_has_not_told_yet_is_asked_for_and_told_later(world: World) -> None:
    async with world.followed():
        await world.make("key", value=b"1")
        assert await world.value("key") == b"1"
        assert await world.news() == ["blue/key"]


async def test_known_values_go_on_while_the_api_server_is_away(world: World) -> None:
    async with world.followed():
        await world.secrets.save("blue", "key", b"1")
        await asyncio.sleep(1)
        world.cluster.go_away()
        assert await world.value("key") == b"1"
        for ask in (
            world.value("other"), world.secrets.save("blue", "key", b"2"), world.secrets.delete("blue", "key"),
            world.secrets.names("green"),
        ):  # fmt: skip
            with pytest.raises(SecretsUnavailable, match="The Kubernetes API cannot be reached") as caught:
                await ask
            assert (caught.value.status, caught.value.retry_after) == (503, 1.0)
        await asyncio.sleep(1)
        assert world.secrets.problems


async def test_a_missing_right_is_an_error_of_the_store(world: World) -> None:
    world.cluster.forbidden.add("create")
    with pytest.raises(StoreError, match="not allowed to create secrets key in namespace blue"):
        await world.secrets.save("blue", "key", b"2")


# -- what is told


async def test_what_others_do_is_told(world: World) -> None:
    await world.make("key", value=b"1")
    async with world.followed():
        assert await world.news() == []
        await world.give("key", value=b"2")
        assert (await world.news(), await world.value("key")) == (["blue/key"], b"2")
        await world.make("more", value=b"1")
        assert await world.news() == ["blue/more"]
        await world.cluster.delete(SECRETS, "more", "blue")
        assert await world.news() == ["blue/more"]
        await world.patch("key", metadata={"labels": {"rescoldo.dev/secret": None}})
        assert (await world.news(), await world.secrets.names("blue")) == (["blue/key"], [])
        await world.patch("key", metadata={"labels": OPEN})
        assert (await world.news(), await world.value("key")) == (["blue/key"], b"2")


async def test_what_changes_no_value_is_not_told(world: World) -> None:
    await world.make("key", value=b"1")
    async with world.followed():
        await world.patch("key", metadata={"labels": {"team": "blue"}})
        await world.give("key", other=b"1")
        await world.give("key", value=b"1")
        assert await world.news() == []


async def test_several_changes_of_one_secret_are_told_once_until_it_is_their_turn(world: World) -> None:
    following = asyncio.create_task(world.secrets.run())
    await asyncio.sleep(1)
    await world.make("key", value=b"1")
    await world.make("more", value=b"1")
    await world.give("key", value=b"2")
    await asyncio.sleep(1)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    changes = world.secrets.changes()
    assert [await anext(changes), await anext(changes)] == [("blue", "key"), ("blue", "more")]
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(60):
            await anext(changes)


async def test_what_others_do_while_no_control_runs_is_told_by_the_next_one(tmp_path: Path) -> None:
    first = World(told=tmp_path / "told.json")
    async with first.followed():
        await first.make("same", value=b"s3cret")
        await first.make("gone", value=b"1")
        await first.secrets.save("blue", "mine", b"1")
        await first.secrets.save("blue", "deleted", b"1")
        await first.secrets.delete("blue", "deleted")
        assert await first.news() == ["blue/same", "blue/gone"]
        await asyncio.sleep(2)
    assert "s3cret" not in (tmp_path / "told.json").read_text()
    await first.give("mine", value=b"2")
    await first.cluster.delete(SECRETS, "gone", "blue")
    await first.make("new", value=b"1")
    next_one = World(first.cluster, tmp_path / "told.json")
    async with next_one.followed():
        assert await next_one.news() == ["blue/mine"]
        await asyncio.sleep(2)
    last = World(first.cluster, tmp_path / "told.json")
    async with last.followed():
        assert await last.news() == []


async def test_what_a_control_was_told_and_did_not_finish_is_told_again(tmp_path: Path) -> None:
    first = World(told=tmp_path / "told.json")
    await first.make("key", value=b"1")
    async with first.followed():
        await asyncio.sleep(2)
    following = asyncio.create_task(first.secrets.run())
    changes = first.secrets.changes()
    await asyncio.sleep(2)
    await first.give("key", value=b"2")
    assert await anext(changes) == ("blue", "key")
    await first.patch("key", metadata={"labels": {"team": "blue"}})
    await asyncio.sleep(5)  # it is still at work
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    next_one = World(first.cluster, tmp_path / "told.json")
    async with next_one.followed():
        assert await next_one.news() == ["blue/key"]


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": "b"}', None])
async def test_a_file_that_cannot_be_read_tells_nothing_and_stops_nobody(
    tmp_path: Path, text: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "told.json"
    if text is not None:
        file.write_text(text)
    world = World(told=file)
    await world.make("key", value=b"1")
    async with world.followed():
        assert await world.news() == []
        await world.give("key", value=b"2")
        assert await world.news() == ["blue/key"]
    assert ("cannot be read" in caplog.text) == (text is not None)


async def test_a_file_that_cannot_be_written_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    world = World(told=tmp_path / "none" / "told.json")
    async with world.followed():
        await world.make("key", value=b"1")
        assert await world.news() == ["blue/key"]
    assert "told.json cannot be written: No such file" in caplog.text


class SlowAnswers(FakeCluster):
    """A cluster whose watch tells a change before, or long after, the answer to the request that made it."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    async def create(self, resource: Resource, obj: Mapping[str, Any], manager: str = "rescoldo") -> Object:
        done = await super().create(resource, obj, manager)
        await asyncio.sleep(self.seconds)
        return done

    async def patch(self, resource: Resource, name: str, *args: Any, **more: Any) -> Object:
        done = await super().patch(resource, name, *args, **more)
        await asyncio.sleep(self.seconds)
        return done

    async def delete(self, resource: Resource, name: str, *args: Any, **more: Any) -> None:
        await super().delete(resource, name, *args, **more)
        await asyncio.sleep(self.seconds)


@pytest.mark.parametrize("seconds", [0.0, 2.0])
async def test_what_control_does_itself_is_no_news_whichever_is_heard_first(seconds: float) -> None:
    world = World(SlowAnswers(seconds))
    async with world.followed():
        for value in (b"1", b"2"):
            await world.secrets.save("blue", "key", value)
            assert (await world.value("key"), await world.secrets.names("blue")) == (value, ["key"])
            assert await world.news() == []
        await world.secrets.delete("blue", "key")
        assert await world.secrets.names("blue") == []
        assert await world.news() == []
        await world.secrets.save("blue", "key", b"2")
        assert await world.secrets.names("blue") == ["key"]
        assert await world.news() == []


async def test_another_change_in_the_middle_of_ours_is_told() -> None:
    world = World(SlowAnswers(2.0))
    async with world.followed():
        await world.secrets.save("blue", "key", b"1")
        saving = asyncio.create_task(world.secrets.save("blue", "key", b"2"))
        await asyncio.sleep(1)
        await FakeCluster.patch(world.cluster, SECRETS, "key", {"data": encoded({"value": b"3"})}, "blue", "kubectl")
        await saving
        assert (await world.value("key"), await world.news()) == (b"3", ["blue/key"])


async def test_who_changes_a_secret_at_the_same_time_loses_nothing(world: World) -> None:
    """Two controls, for a moment."""
    other = KubeSecrets(world.cluster, ["blue"])
    await asyncio.gather(world.secrets.save("blue", "key", b"1"), other.save("blue", "key", b"2"))
    assert await world.value("key") in (b"1", b"2")
    await asyncio.gather(world.secrets.save("blue", "key", b"3"), other.save("blue", "key", b"4"))
    assert await world.value("key") in (b"3", b"4")
    await asyncio.gather(world.secrets.delete("blue", "key"), other.delete("blue", "key"))
    assert await world.secrets.names("blue") == []


@pytest.mark.parametrize("seed", range(20))
async def test_whatever_happens_in_whatever_order_memory_is_true_in_the_end(seed: int) -> None:
    chance = random.Random(seed)
    world = World(SlowAnswers(chance.choice([0.0, 0.01, 0.1])))

    async def ours() -> None:
        for _ in range(20):
            name = chance.choice("ab")
            with suppress(RescoldoError):
                if chance.random() < 0.6:
                    await world.secrets.save("blue", name, bytes([chance.randrange(256)]))
                else:
                    await world.secrets.delete("blue", name)

    async def theirs() -> None:
        for _ in range(20):
            name, value = chance.choice("ab"), bytes([chance.randrange(256)])
            label = {"labels": {"rescoldo.dev/secret": chance.choice(["no", "true"])}}
            with suppress(RescoldoError):
                match chance.randrange(4):
                    case 0:
                        await world.make(name, value=value)
                    case 1:
                        await world.give(name, value=value)
                    case 2:
                        await world.cluster.delete(SECRETS, name, "blue")
                    case _:
                        await world.patch(name, metadata=label)
            if chance.random() < 0.1:
                chance.choice([world.cluster.compact, world.cluster.end_watches])()

    async with world.followed():
        await asyncio.gather(ours(), theirs())
        await asyncio.sleep(100)
        world.cluster.requests.clear()
        known = await world.secrets.names("blue"), await world.secrets.values("blue", await world.secrets.names("blue"))
        assert {asked.verb for asked in world.cluster.requests} <= {"watch"}, "it was asked for"
        fresh = KubeSecrets(world.cluster, [])
        names = await fresh.names("blue")
        assert known == (names, await fresh.values("blue", names))


async def test_no_value_is_in_a_repr_a_log_or_an_error(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    async with world.followed():
        await world.secrets.save("blue", "key", b"s3cret")
        await world.give("key", value=b"s3cret2")
        await asyncio.sleep(1)
        space = world.secrets._spaces["blue"]
        assert "s3cret" not in f"{caplog.text} {world.secrets!r} {space!r} {space.get('key')!r}"
        assert space.get("key") is not None


async def test_what_control_has_made_is_told_from_what_users_have_made(world: World) -> None:
    """By the labels that `rescoldo kubernetes uninstall` selects."""
    await world.secrets.save("blue", "ours", b"x")
    await world.make("theirs", value=b"x")
    pages = [page async for page in world.cluster.list(SECRETS, "blue", FUNCTION_SECRET)]
    assert [obj["metadata"]["name"] for page in pages for obj in page.items] == ["ours"]
