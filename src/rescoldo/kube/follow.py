"""Follows the objects of a kind: a list, then a watch from its version, for as long as it is asked to.

What can go wrong, and what follows from it:

* The API server is away, a connection is cut, or a watch is silent (kube/protocol.py: noticed within 40 s): watch again
  from the last version. Nothing is listed, so that a restart of the API server costs it one small request.
* The changes since that version are gone (410, an ERROR event), or the kind or the right to watch it is: list again,
  and tell the differences. So a kind that may be listed alone is polled.
* Whatever fails, and a watch that ends within LEAST_WATCH, is followed by a pause: what the API server asks for (1 s
  without a Retry-After), or more as failures go on: 2, 4, 8, 10 s (policy/backoff.py). Chance adds up to half of it: 10
  to 15 s in the end, so that parts that lost the same API server do not come back at once.

One thing is not noticed: an etcd that was restored from a backup and has lost the latest versions. etcd's manual has
the API server's clients restarted then, or the versions raised (`--bump-revision`).
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from rescoldo.kube.errors import ClusterUnavailable, Expired
from rescoldo.kube.protocol import Cluster, Event, EventType, Object, Resource
from rescoldo.model.errors import Busy, RescoldoError
from rescoldo.policy.backoff import retry_delay

log = logging.getLogger(__name__)

LEAST_WATCH = 1.0  # seconds; the API server ends healthy watches after 30

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Snapshot(Generic[T]):
    """All objects there are: the first of a follower's changes."""

    objects: Sequence[T]


@dataclass(frozen=True, slots=True)
class Changed(Generic[T]):
    """An object is new, or differs."""

    object: T


@dataclass(frozen=True, slots=True)
class Gone:
    """An object was deleted, or no longer matches the labels. `uid` tells it from a later one of that name."""

    namespace: str
    name: str
    uid: str


class Key(NamedTuple):
    """What is unique at one moment."""

    namespace: str
    name: str


class _Seen(NamedTuple):
    uid: str
    version: str


class Follower(Generic[T]):
    """Follows the objects of one kind, and says how old its knowledge is. It keeps names and versions, not objects.

    `read` turns an object into what is told of it, as soon as its page has arrived: the JSON of 10,000 objects is never
    held at once. It must not raise.
    """

    def __init__(
        self,
        cluster: Cluster,
        resource: Resource,
        read: Callable[[Object], T],
        *,
        namespace: str = "",
        labels: str = "",
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.problem = ""  # why nothing is heard from the API server at the moment; empty: it is heard
        self._cluster, self._resource, self._read = cluster, resource, read
        self._where = (namespace, labels)
        self._clock, self._chance = clock, chance
        self._seen: dict[Key, _Seen] = {}
        self._version = ""  # where a watch goes on; empty: list first
        self._told = False  # the snapshot
        self._failures = 0  # in a row
        self._confirmed = -math.inf  # on the clock
        self._opened = math.inf  # when the API server accepted the last watch

    def unconfirmed(self) -> float:
        """Return the seconds since all that was told was certainly true; infinite before the first snapshot.

        While the API server is heard, this stays below WATCH_SECONDS and the time of a request (about 30 s): it is
        confirmed by a list, an event, a bookmark, and the start and the orderly end of a watch.
        """
        return self._clock() - self._confirmed

    async def changes(self) -> AsyncGenerator[Snapshot[T] | Changed[T] | Gone]:
        """Yield one Snapshot, then changes, and never end. The caller closes the generator (contextlib.aclosing)."""
        while True:
            pause, self._opened = 0.0, math.inf
            try:
                if not self._version:
                    for change in await self._list():
                        yield change
                async with aclosing(self._watch()) as changes:
                    async for change in changes:
                        yield change
                if not self._lasted():
                    pause = self._pause()
            except RescoldoError as error:
                if not isinstance(error, ClusterUnavailable):
                    self._version = ""
                pause = self._pause(error)
            await asyncio.sleep(pause)

    async def _list(self) -> list[Snapshot[T] | Changed[T] | Gone]:
        """List, and return what is to be told of it: the snapshot, or differences."""
        began, version = self._clock(), ""
        seen: dict[Key, _Seen] = {}
        new: list[T] = []  # unseen or changed
        async with aclosing(self._cluster.list(self._resource, *self._where)) as pages:
            async for page in pages:
                version = page.version
                for obj in page.items:
                    key, now = _of(obj)
                    seen[key] = now
                    if self._seen.get(key) != now:
                        new.append(self._read(obj))
        before, self._seen, self._version, self._confirmed = self._seen, seen, version, began
        if not self._told:
            self._told = True
            return [Snapshot(new)]
        gone = [Gone(*key, was.uid) for key, was in before.items() if key not in seen or seen[key].uid != was.uid]
        return [*gone, *map(Changed, new)]

    async def _watch(self) -> AsyncGenerator[Changed[T] | Gone]:
        before = self._confirmed
        try:
            async with aclosing(self._cluster.watch(self._resource, self._version, *self._where)) as events:
                async for event in events:
                    self._confirmed = self._clock()
                    self._well()
                    if event.type is EventType.OPENED:
                        self._opened = self._confirmed
                        continue
                    before, self._failures = self._confirmed, 0
                    for change in self._changes_of(event):
                        yield change
                    self._version = event.object["metadata"]["resourceVersion"]
        except RescoldoError as error:
            # what was missed comes at once after the start, or the ERROR event that says it is lost
            if isinstance(error, Expired) or not self._lasted():
                self._confirmed = before
            raise
        self._confirmed = self._clock() if self._lasted() else before

    def _changes_of(self, event: Event) -> Iterator[Changed[T] | Gone]:
        if event.type is EventType.BOOKMARK:
            return
        key, now = _of(event.object)
        was = self._seen.get(key)
        if event.type is EventType.DELETED:
            if was is not None:
                del self._seen[key]
                yield Gone(*key, was.uid)
        elif was != now:
            self._seen[key] = now
            yield Changed(self._read(event.object))

    def _lasted(self) -> bool:
        """Return whether the last watch was open for so long that its end is no failure."""
        return self._clock() - self._opened >= LEAST_WATCH

    def _pause(self, error: RescoldoError | None = None) -> float:
        """Note a failure and return the seconds to wait after it."""
        self._failures = 1 if self._lasted() else self._failures + 1
        if error is not None and error.message != self.problem:
            self.problem = error.message
            log.warning("%s are not followed at the moment: %s", self._resource.name, error.message)
        asked = error.retry_after if isinstance(error, Busy) else 0.0
        return max(asked, retry_delay(self._failures)) * (1 + self._chance() / 2)

    def _well(self) -> None:
        """Note that a watch is open: a list that succeeds is not enough, as there may be no right to watch."""
        if self.problem:
            log.warning("%s are followed again", self._resource.name)
            self.problem = ""


def _of(obj: Object) -> tuple[Key, _Seen]:
    meta = obj["metadata"]
    return Key(meta.get("namespace") or "", meta["name"]), _Seen(meta["uid"], meta["resourceVersion"])
