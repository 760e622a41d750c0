"""An in-memory API server for unit tests of the layers above; it passes the same contract tests as the real one.

Time passes by the loop's clock alone: virtual time works. It checks no schema, knows no namespaces as objects and gives
no defaults.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import defaultdict
from collections.abc import AsyncGenerator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from rescoldo.kube.errors import Asked, Changed, ClusterUnavailable, Expired, Forbidden
from rescoldo.kube.fake_fields import Fields, Owner, merged
from rescoldo.kube.protocol import MANAGER, PAGE, WATCH_SECONDS, Event, EventType, Object, Page, Resource
from rescoldo.kube.rights import REVIEWS
from rescoldo.kube.selector import matches
from rescoldo.model.errors import Conflict, InvalidInput, NotFound, RescoldoError
from rescoldo.tasks import set_within

BOOKMARK_SECONDS = 2.0  # before the end of a watch
Key = tuple[str, str]  # namespace, name


@dataclass(slots=True)
class _Stored:
    obj: Object
    fields: Fields = field(default_factory=Fields)


@dataclass(frozen=True, slots=True)
class _Change:
    """What happened to one object at `version`; None before it existed, and after it was gone."""

    version: int
    before: Object | None
    after: Object | None


@dataclass(slots=True, eq=False)
class _Watcher:
    news: asyncio.Event = field(default_factory=asyncio.Event)
    ended: bool = False
    error: RescoldoError | None = None  # raised when it ended
    bookmark: bool = False  # one is due
    bookmarked: bool = False  # it was, before the end

    async def wait(self, end: float) -> None:
        """Wait for news until `end` (the loop's clock); a bookmark is due BOOKMARK_SECONDS before."""
        left = end - asyncio.get_running_loop().time() - (0.0 if self.bookmarked else BOOKMARK_SECONDS)
        if not await set_within(self.news, left):
            self.ended = self.bookmarked
            self.bookmark = self.bookmarked = True
        self.news.clear()


class FakeCluster:
    """A `Cluster` in memory, and what a test does to it: `go_away`, `compact`, `end_watches`, `break_watches`."""

    def __init__(self, *, page: int = PAGE, watch_seconds: float = WATCH_SECONDS) -> None:
        self.requests: list[Asked] = []  # all, in order
        self.forbidden: set[str] = set()  # verbs that are refused
        self.git_version = "v1.36.3"
        self._page, self._watch_seconds = page, watch_seconds
        self._objects: defaultdict[Resource, dict[Key, _Stored]] = defaultdict(dict)
        self._changes: defaultdict[Resource, list[_Change]] = defaultdict(list)
        self._version, self._compacted = 1, 0
        self._watchers: set[_Watcher] = set()
        self._away = False

    # what a test does

    def go_away(self) -> None:
        """Refuse all requests, and cut all watches, until `come_back`."""
        self._away = True
        self.break_watches(ClusterUnavailable())

    def come_back(self) -> None:
        """Answer again."""
        self._away = False

    def compact(self) -> None:
        """Forget all changes: a new watch from an older version raises Expired. Open watches go on."""
        self._version += 1
        self._compacted = self._version

    def end_watches(self) -> None:
        """End all watches, as the API server does from time to time."""
        self._end_watches(None)

    def break_watches(self, error: RescoldoError) -> None:
        """End all watches with `error`, as an ERROR event or a lost connection does."""
        self._end_watches(error)

    def bookmark(self) -> None:
        """Send a bookmark to all watches."""
        for watcher in self._watchers:
            watcher.bookmark = True
            watcher.news.set()

    @property
    def watches(self) -> int:
        """The number of open watches."""
        return len(self._watchers)

    # what it answers

    async def version(self) -> str:
        await self._ask(Asked("get", Resource("", "", "", "/version", namespaced=False)))
        return self.git_version

    async def get(self, resource: Resource, name: str, namespace: str = "") -> Object:
        await self._ask(Asked("get", resource, namespace, name))
        return deepcopy(self._stored(resource, namespace, name).obj)

    async def list(self, resource: Resource, namespace: str = "", labels: str = "") -> AsyncGenerator[Page]:
        version, position, items = str(self._version), 0, None
        while items is None or position < len(items):
            await self._ask(Asked("list", resource, namespace))
            if items is None:
                version = str(self._version)
                found = sorted(self._objects[resource].items())
                items = [deepcopy(stored.obj) for _, stored in found if _selected(stored.obj, namespace, labels)]
            yield Page(items[position : position + self._page], version)
            position += self._page

    async def watch(
        self, resource: Resource, version: str, namespace: str = "", labels: str = ""
    ) -> AsyncGenerator[Event]:
        await self._ask(Asked("watch", resource, namespace))
        position = int(version)
        if position < self._compacted:
            raise Expired(f"too old resource version: {version} ({self._compacted})")
        watcher = _Watcher()
        self._watchers.add(watcher)
        end = asyncio.get_running_loop().time() + self._watch_seconds
        try:
            yield Event(EventType.OPENED, {})
            while not watcher.ended:
                for change in [change for change in self._changes[resource] if change.version > position]:
                    position = change.version
                    if event := _event(change, namespace, labels):
                        yield event
                if watcher.bookmark:
                    watcher.bookmark = False
                    yield _bookmark(resource, self._version)
                await watcher.wait(end)
        finally:
            self._watchers.discard(watcher)
        if watcher.error is not None:
            raise watcher.error

    async def create(self, resource: Resource, obj: Mapping[str, Any], manager: str = MANAGER) -> Object:
        meta = obj["metadata"]
        name, namespace = meta.get("name") or "", meta.get("namespace") or ""
        await self._ask(Asked("create", resource, namespace, name))
        if resource == REVIEWS:
            verb = obj["spec"]["resourceAttributes"]["verb"]
            return {"metadata": {}, "status": {"allowed": verb not in self.forbidden}}
        if not name:
            raise InvalidInput("metadata.name: Required value: name or generateName is required")
        if (namespace, name) in self._objects[resource]:
            raise Conflict(f'{resource.name} "{name}" already exists')
        new = {key: value for key, value in obj.items() if not (key == "status" and resource.has_status)}
        stored = _Stored({})
        stored.fields.update(Owner(manager, "Update"), {}, new)
        return self._add(resource, stored, new)

    async def apply(
        self,
        resource: Resource,
        obj: Mapping[str, Any],
        manager: str = MANAGER,
        *,
        force: bool = False,
        subresource: str = "",
    ) -> Object:
        meta = obj["metadata"]
        key = (meta.get("namespace") or "", meta["name"])
        await self._ask(Asked("patch", resource, *key, subresource))
        owner = Owner(manager, "Apply", subresource)
        stored = self._objects[resource].get(key)
        if stored is None:
            if subresource or "resourceVersion" in meta:
                raise NotFound(f'{resource.name} "{key[1]}" not found')
            stored = _Stored({})
            named = {"metadata": {name: meta[name] for name in ("namespace", "name") if name in meta}}
            return self._add(resource, stored, stored.fields.apply(owner, named, _part(resource, obj, ""), force))
        _check(stored.obj, resource, "", meta.get("resourceVersion") or "")
        new = stored.fields.apply(owner, stored.obj, _part(resource, obj, subresource), force)
        return self._replace(resource, key, stored, new)

    async def patch(
        self,
        resource: Resource,
        name: str,
        change: Mapping[str, Any],
        namespace: str = "",
        manager: str = MANAGER,
        *,
        subresource: str = "",
    ) -> Object:
        await self._ask(Asked("patch", resource, namespace, name, subresource))
        stored = self._stored(resource, namespace, name)
        _check(stored.obj, resource, "", change.get("metadata", {}).get("resourceVersion") or "")
        new = merged(stored.obj, _part(resource, change, subresource))
        stored.fields.update(Owner(manager, "Update", subresource), stored.obj, new)
        return self._replace(resource, (namespace, name), stored, new)

    async def delete(
        self, resource: Resource, name: str, namespace: str = "", *, uid: str = "", version: str = ""
    ) -> None:
        await self._ask(Asked("delete", resource, namespace, name))
        stored = self._stored(resource, namespace, name)
        _check(stored.obj, resource, uid, version)
        meta = stored.obj["metadata"]
        if not meta.get("finalizers"):
            self._remove(resource, (namespace, name))
        elif "deletionTimestamp" not in meta:
            new = deepcopy(stored.obj)
            new["metadata"]["deletionTimestamp"] = _now()
            new["metadata"]["deletionGracePeriodSeconds"] = 0
            if resource.has_status:
                new["metadata"]["generation"] += 1
            self._store(resource, stored, new)

    async def _ask(self, asked: Asked) -> None:
        self.requests.append(asked)
        await asyncio.sleep(0)
        if self._away:
            raise ClusterUnavailable()
        if asked.verb in self.forbidden:
            raise Forbidden(f"not allowed to {asked}")

    def _stored(self, resource: Resource, namespace: str, name: str) -> _Stored:
        try:
            return self._objects[resource][namespace, name]
        except KeyError:
            raise NotFound(f'{resource.name} "{name}" not found') from None

    def _add(self, resource: Resource, stored: _Stored, new: Mapping[str, Any]) -> Object:
        obj = deepcopy(dict(new)) | {"apiVersion": resource.api_version, "kind": resource.kind}
        obj["metadata"] = {**obj["metadata"], "uid": str(uuid.uuid4()), "creationTimestamp": _now()}
        if resource.has_status:
            obj["metadata"]["generation"] = 1
        meta = obj["metadata"]
        self._objects[resource][meta.get("namespace") or "", meta["name"]] = stored
        return self._store(resource, stored, obj)

    def _replace(self, resource: Resource, key: Key, stored: _Stored, new: Object) -> Object:
        """Store what differs from before; the last finalizer that goes takes a deleted object with it."""
        old, new = stored.obj, deepcopy(new)
        new["metadata"] |= {name: old["metadata"][name] for name in ("uid", "resourceVersion", "creationTimestamp")}
        if new == old:
            return deepcopy(old)
        if resource.has_status and _content(new) != _content(old):
            new["metadata"]["generation"] += 1
        if "deletionTimestamp" in old["metadata"] and not new["metadata"].get("finalizers"):
            self._remove(resource, key)
            return deepcopy(new)
        return self._store(resource, stored, new)

    def _store(self, resource: Resource, stored: _Stored, new: Object) -> Object:
        self._version += 1
        new["metadata"]["resourceVersion"] = str(self._version)
        before, stored.obj = stored.obj or None, new
        self._tell(resource, _Change(self._version, before, new))
        return deepcopy(new)

    def _remove(self, resource: Resource, key: Key) -> None:
        self._version += 1
        before = self._objects[resource].pop(key).obj
        self._tell(resource, _Change(self._version, before, None))

    def _tell(self, resource: Resource, change: _Change) -> None:
        self._changes[resource].append(change)
        for watcher in self._watchers:
            watcher.news.set()

    def _end_watches(self, error: RescoldoError | None) -> None:
        for watcher in self._watchers:
            watcher.ended, watcher.error = True, error
            watcher.news.set()


def _selected(obj: Object | None, namespace: str, labels: str) -> bool:
    if obj is None:
        return False
    meta = obj["metadata"]
    return (not namespace or meta.get("namespace") == namespace) and matches(labels, meta.get("labels") or {})


def _event(change: _Change, namespace: str, labels: str) -> Event | None:
    """Return what a watch with this selector sees of a change."""
    was, is_now = _selected(change.before, namespace, labels), _selected(change.after, namespace, labels)
    if is_now:
        assert change.after is not None
        return Event(EventType.MODIFIED if was else EventType.ADDED, deepcopy(change.after))
    if not was:
        return None
    assert change.before is not None
    last = deepcopy(change.before)
    last["metadata"]["resourceVersion"] = str(change.version)
    return Event(EventType.DELETED, last)


def _bookmark(resource: Resource, version: int) -> Event:
    about = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": {"resourceVersion": str(version)}}
    return Event(EventType.BOOKMARK, about)


def _part(resource: Resource, obj: Mapping[str, Any], subresource: str) -> Object:
    """Return what a request may change: the status by its subresource, and all else without it."""
    if subresource:
        return {"status": obj.get("status", {})}
    return {key: value for key, value in obj.items() if not (key == "status" and resource.has_status)}


def _content(obj: Object) -> Object:
    """Return what the generation counts."""
    return {key: value for key, value in obj.items() if key not in ("metadata", "status")}


def _check(obj: Object, resource: Resource, uid: str, version: str) -> None:
    """Raise Changed unless uid and version, where given, are the object's."""
    meta = obj["metadata"]
    if (uid and uid != meta["uid"]) or (version and version != meta["resourceVersion"]):
        raise Changed(f'{resource.name} "{meta["name"]}": the object has been modified')


def _now() -> str:
    """Return a moment as the API server writes it; it need not be the present one."""
    return "2026-01-01T00:00:00Z"
