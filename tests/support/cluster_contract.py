"""What every `Cluster` promises: the fake (tests/contract) and a real API server (tests/kubernetes) run these tests.

Each of the two has a fixture `world`.
"""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from rescoldo.kube.errors import Changed, Owned
from rescoldo.kube.protocol import Cluster, Event, EventType, Object, Page, Resource
from rescoldo.kube.rights import may
from rescoldo.model.errors import Conflict, NotFound

CONFIG_MAPS = Resource("", "v1", "ConfigMap", "configmaps")
# a kind of this process alone, with any `spec` and a subresource `status`
THINGS = Resource(f"t{uuid.uuid4().hex[:8]}.rescoldo.dev", "v1", "Thing", "things", has_status=True)


@dataclass
class World:
    cluster: Cluster  # lists three objects a page; its watches end soon
    namespace: str  # with nothing in it that has the label `test`
    other: str  # another one

    def thing(self, name: str = "a", namespace: str = "", **more: Any) -> Object:
        labels = {"test": "yes", **more.pop("labels", {})}
        return {"metadata": {"name": name, "namespace": namespace or self.namespace, "labels": labels}, **more}

    async def create(self, name: str = "a", **more: Any) -> Object:
        return await self.cluster.create(THINGS, self.thing(name, **more))

    async def get(self, name: str = "a") -> Object:
        return await self.cluster.get(THINGS, name, self.namespace)

    async def patch(self, change: Object, **more: Any) -> Object:
        return await self.cluster.patch(THINGS, "a", change, self.namespace, **more)

    async def apply(self, manager: str, *, name: str = "a", force: bool = False, **more: Any) -> Object:
        about = {"name": name, "namespace": self.namespace, **more.pop("metadata", {})}
        return await self.cluster.apply(THINGS, {"metadata": about, **more}, manager, force=force)

    async def pages(self, labels: str = "", namespace: str | None = None) -> list[Page]:
        where = self.namespace if namespace is None else namespace
        return [page async for page in self.cluster.list(THINGS, where, labels)]

    async def names(self, labels: str = "", namespace: str | None = None) -> list[str]:
        return [item["metadata"]["name"] for page in await self.pages(labels, namespace) for item in page.items]

    @asynccontextmanager
    async def watching(self, version: str, labels: str = "") -> AsyncIterator[AsyncIterator[Event]]:
        async with aclosing(self.cluster.watch(THINGS, version, self.namespace, labels)) as events:
            assert (await anext(events)).type == EventType.OPENED
            yield events


def version_of(obj: Object) -> str:
    return str(obj["metadata"]["resourceVersion"])


async def told(events: AsyncIterator[Event], number: int) -> list[tuple[str, str]]:
    """The next `number` events that are no bookmarks: type and name."""
    found: list[tuple[str, str]] = []
    async with asyncio.timeout(10):
        while len(found) < number:
            event = await anext(events)
            if event.type != EventType.BOOKMARK:
                found.append((event.type.value, event.object["metadata"]["name"]))
    return found


async def test_a_cluster_says_its_version(world: World) -> None:
    assert re.match(r"v\d+\.\d+\.\d+", await world.cluster.version())


async def test_a_cluster_says_what_its_credentials_allow(world: World) -> None:
    assert await may(world.cluster, "patch", THINGS, world.namespace)
    assert await may(world.cluster, "list", THINGS)


async def test_a_created_object_is_read_as_it_was_stored(world: World) -> None:
    created = await world.create(spec={"size": 1, "of": {"b": [1, 2]}})
    assert await world.get() == created
    assert created["spec"] == {"size": 1, "of": {"b": [1, 2]}}
    assert (created["apiVersion"], created["kind"]) == (THINGS.api_version, "Thing")
    meta = created["metadata"]
    assert meta["generation"] == 1 and meta["uid"] and meta["creationTimestamp"] and meta["resourceVersion"]
    assert "managedFields" not in meta


async def test_an_object_of_the_core_has_no_generation_and_no_other_status(world: World) -> None:
    thing = {"metadata": {"name": "plain", "namespace": world.namespace}, "data": {"a": "1"}}
    created = await world.cluster.create(CONFIG_MAPS, thing)
    assert (created["apiVersion"], created["kind"], created["data"]) == ("v1", "ConfigMap", {"a": "1"})
    assert "generation" not in created["metadata"]
    await world.cluster.delete(CONFIG_MAPS, "plain", world.namespace)


async def test_what_exists_cannot_be_created(world: World) -> None:
    await world.create()
    with pytest.raises(Conflict, match="already exists") as caught:
        await world.create()
    assert not isinstance(caught.value, Changed | Owned)


async def test_what_is_not_there_is_not_found(world: World) -> None:
    with pytest.raises(NotFound, match='"a" not found'):
        await world.get()
    with pytest.raises(NotFound):
        await world.patch({"spec": {"size": 1}})
    with pytest.raises(NotFound):
        await world.cluster.delete(THINGS, "a", world.namespace)
    with pytest.raises(NotFound):
        await world.cluster.apply(THINGS, world.thing(status={"x": "1"}), subresource="status")


async def test_a_list_has_all_objects_of_a_namespace_and_its_pages_one_version(world: World) -> None:
    for name in ("d", "b", "a", "c"):
        await world.create(name)
    await world.cluster.create(THINGS, world.thing("elsewhere", world.other))
    pages = await world.pages("test=yes")
    assert [[item["metadata"]["name"] for item in page.items] for page in pages] == [["a", "b", "c"], ["d"]]
    assert len({page.version for page in pages}) == 1
    first = pages[0].items[0]
    assert first == await world.get()


async def test_a_list_of_nothing_has_a_version(world: World) -> None:
    (page,) = await world.pages("test=yes")
    assert list(page.items) == [] and page.version
    created = await world.create()
    async with world.watching(page.version) as events:
        event = await anext(events)
    assert event == Event(EventType.ADDED, created)


async def test_a_list_can_have_all_namespaces(world: World) -> None:
    await world.create("here")
    await world.cluster.create(THINGS, world.thing("there", world.other))
    assert {"here", "there"} <= set(await world.names(namespace=""))
    assert await world.names() == ["here"]


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ("", ["a", "b", "c"]),
        ("tier=web", ["a"]),
        ("tier==web,test=yes", ["a"]),
        ("tier!=web", ["b", "c"]),
        ("tier", ["a", "b"]),
        ("!tier", ["c"]),
        ("tier in (web, db)", ["a", "b"]),
        ("tier notin (web)", ["b", "c"]),
        ("tier=nothing", []),
    ],
)
async def test_labels_select(world: World, labels: str, names: list[str]) -> None:
    await world.create("a", labels={"tier": "web"})
    await world.create("b", labels={"tier": "db"})
    await world.create("c")
    assert await world.names(labels) == names


async def test_a_watch_tells_what_changes_after_its_version_in_order(world: World) -> None:
    await world.create("old")
    version = (await world.pages())[-1].version
    await world.create()
    async with world.watching(version) as events:
        await world.patch({"spec": {"size": 2}})
        await world.create("b")
        await world.cluster.delete(THINGS, "a", world.namespace)
        assert await told(events, 4) == [("ADDED", "a"), ("MODIFIED", "a"), ("ADDED", "b"), ("DELETED", "a")]


async def test_a_watch_goes_on_from_an_events_version(world: World) -> None:
    version = (await world.pages())[-1].version
    await world.create()
    async with world.watching(version) as events:
        seen = (await anext(events)).object
    await world.create("b")
    await world.cluster.delete(THINGS, "b", world.namespace)
    async with world.watching(version_of(seen)) as events:
        assert await told(events, 1) == [("ADDED", "b")]
        event = await anext(events)
    assert event.type == EventType.DELETED and int(version_of(event.object)) > int(version_of(seen))
    async with world.watching(version_of(event.object)) as events:
        await world.create("c")
        assert await told(events, 1) == [("ADDED", "c")]


async def test_a_watch_with_labels_sees_objects_come_and_go(world: World) -> None:
    version = (await world.pages())[-1].version
    await world.create(labels={"tier": "db"})
    async with world.watching(version, "tier=web") as events:
        await world.patch({"metadata": {"labels": {"tier": "web"}}})
        await world.patch({"spec": {"size": 2}})
        await world.patch({"metadata": {"labels": {"tier": None}}})
        await world.create("b", labels={"tier": "web"})
        assert await told(events, 4) == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a"), ("ADDED", "b")]


async def test_a_watch_ends_after_a_bookmark_that_counts_what_it_did_not_show(world: World) -> None:
    for number in range(5):  # the API server promises no bookmark, and leaves one out now and then
        version = (await world.pages())[-1].version
        async with asyncio.timeout(30), world.watching(version) as events:
            hidden = await world.cluster.create(THINGS, world.thing(f"hidden-{number}", world.other))
            rest = [event async for event in events]
        if rest:
            break
    assert {event.type for event in rest} == {EventType.BOOKMARK}
    mark = rest[-1].object
    assert (mark["apiVersion"], mark["kind"]) == (THINGS.api_version, "Thing")
    assert int(version_of(mark)) >= int(version_of(hidden))
    await world.create("b")
    async with world.watching(version_of(mark)) as again:
        assert await told(again, 1) == [("ADDED", "b")]


async def test_a_patch_merges(world: World) -> None:
    await world.create(spec={"a": {"x": 1, "y": 2}, "b": [1, 2]})
    changed = await world.patch({"spec": {"a": {"x": None, "z": 3}, "b": [3]}})
    assert changed["spec"] == {"a": {"y": 2, "z": 3}, "b": [3]}
    assert await world.get() == changed


async def test_a_patch_that_changes_nothing_is_no_change(world: World) -> None:
    created = await world.create(spec={"size": 1})
    assert await world.patch({"spec": {"size": 1}}) == created


async def test_a_patch_of_an_old_version_is_refused(world: World) -> None:
    old = await world.create(spec={"size": 1})
    new = await world.patch({"spec": {"size": 2}, "metadata": {"resourceVersion": version_of(old)}})
    with pytest.raises(Changed, match="has been modified"):
        await world.patch({"spec": {"size": 3}, "metadata": {"resourceVersion": version_of(old)}})
    assert await world.get() == new


async def test_the_generation_counts_changes_of_the_spec(world: World) -> None:
    await world.create(spec={"size": 1})
    assert (await world.patch({"metadata": {"labels": {"x": "y"}}}))["metadata"]["generation"] == 1
    assert (await world.patch({"spec": {"size": 2}}))["metadata"]["generation"] == 2


async def test_the_status_has_a_door_of_its_own(world: World) -> None:
    created = await world.create(spec={"size": 1}, status={"state": "made up"})
    assert "status" not in created
    both = {"spec": {"size": 2}, "status": {"state": "ready"}}
    changed = await world.patch(both, subresource="status")
    assert (changed["spec"], changed["status"]) == ({"size": 1}, {"state": "ready"})
    assert changed["metadata"]["generation"] == 1
    changed = await world.patch({"spec": {"size": 3}, "status": {"state": "made up"}})
    assert (changed["spec"], changed["status"]) == ({"size": 3}, {"state": "ready"})
    with pytest.raises(Changed):
        old = {"resourceVersion": version_of(created)}
        await world.patch({"metadata": old, "status": {"state": "late"}}, subresource="status")


async def test_applying_creates_and_then_changes(world: World) -> None:
    made = await world.apply("one", spec={"size": 1})
    assert (made["spec"], made["metadata"]["generation"], made["kind"]) == ({"size": 1}, 1, "Thing")
    assert await world.apply("one", spec={"size": 1}) == made
    changed = await world.apply("one", spec={"size": 2})
    assert changed["spec"] == {"size": 2} and await world.get() == changed


async def test_applying_removes_what_the_manager_no_longer_gives(world: World) -> None:
    await world.apply("one", spec={"a": 1, "b": 1, "of": {"x": 1, "y": 1}}, metadata={"labels": {"l": "1"}})
    await world.apply("two", spec={"b": 1, "c": 1})
    changed = await world.apply("one", spec={"a": 1, "of": {"x": 1}})
    assert changed["spec"] == {"a": 1, "b": 1, "c": 1, "of": {"x": 1}}
    assert "labels" not in changed["metadata"]
    assert (await world.apply("two", spec={}))["spec"] == {"a": 1, "of": {"x": 1}}


async def test_applying_what_another_manager_owns_is_refused(world: World) -> None:
    made = await world.apply("one", spec={"size": 1})
    with pytest.raises(Owned, match=r'conflict with "one".*\.spec\.size'):
        await world.apply("two", spec={"size": 2})
    assert await world.get() == made


async def test_applying_with_force_takes_a_field_over(world: World) -> None:
    await world.apply("one", spec={"size": 1})
    assert (await world.apply("two", spec={"size": 2}, force=True))["spec"] == {"size": 2}
    with pytest.raises(Owned, match='conflict with "two"'):
        await world.apply("one", spec={"size": 1})
    assert (await world.apply("one", spec={}))["spec"] == {"size": 2}


async def test_a_patch_owns_what_it_changes(world: World) -> None:
    await world.apply("one", spec={"a": 1, "b": 1})
    await world.patch({"spec": {"a": 2}}, manager="two")
    with pytest.raises(Owned, match=r'conflict with "two".*\.spec\.a'):
        await world.apply("one", spec={"a": 1, "b": 1})
    assert (await world.apply("one", spec={"b": 2}))["spec"] == {"a": 2, "b": 2}


async def test_applying_the_status_changes_it_alone(world: World) -> None:
    await world.create(spec={"size": 1})
    both = world.thing(spec={"size": 2}, status={"state": "ready"})
    changed = await world.cluster.apply(THINGS, both, subresource="status")
    assert (changed["spec"], changed["status"]) == ({"size": 1}, {"state": "ready"})
    gone = await world.cluster.apply(THINGS, world.thing(status={"other": "x"}), subresource="status")
    assert gone["status"] == {"other": "x"}


async def test_applying_to_an_old_version_is_refused(world: World) -> None:
    old = await world.apply("one", spec={"size": 1})
    await world.apply("one", spec={"size": 2})
    with pytest.raises(Changed):
        await world.apply("one", spec={"size": 3}, metadata={"resourceVersion": version_of(old)})


async def test_a_deleted_object_waits_for_its_finalizers(world: World) -> None:
    made = await world.apply("one", spec={"size": 1}, metadata={"finalizers": ["rescoldo.dev/x"]})
    await world.apply("two", metadata={"finalizers": ["rescoldo.dev/y"]})
    async with world.watching(version_of(made)) as events:
        await world.cluster.delete(THINGS, "a", world.namespace)
        marked = await world.get()
        assert marked["metadata"]["deletionTimestamp"]
        assert sorted(marked["metadata"]["finalizers"]) == ["rescoldo.dev/x", "rescoldo.dev/y"]
        await world.cluster.delete(THINGS, "a", world.namespace)
        assert await world.get() == marked
        assert (await world.apply("two"))["metadata"]["finalizers"] == ["rescoldo.dev/x"]
        await world.patch({"metadata": {"finalizers": None}})
        kinds = [("MODIFIED", "a"), ("MODIFIED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]
        assert await told(events, 4) == kinds
    with pytest.raises(NotFound):
        await world.get()


async def test_only_the_object_that_was_meant_is_deleted(world: World) -> None:
    old = await world.create(spec={"size": 1})
    new = await world.patch({"spec": {"size": 2}})
    with pytest.raises(Changed):
        await world.cluster.delete(THINGS, "a", world.namespace, version=version_of(old))
    with pytest.raises(Changed):
        await world.cluster.delete(THINGS, "a", world.namespace, uid="00000000-0000-0000-0000-000000000000")
    assert await world.get() == new
    uid = new["metadata"]["uid"]
    await world.cluster.delete(THINGS, "a", world.namespace, uid=uid, version=version_of(new))
    again = await world.create()
    assert again["metadata"]["uid"] != uid
