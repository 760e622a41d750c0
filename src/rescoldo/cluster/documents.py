"""`Documents` in the Kubernetes API: one Function each, with its revisions (objects.py).

A document is saved in the order spec, revision, status. Whoever is killed in between leaves a spec that asks for what
is not deployed yet, as a user leaves it with kubectl, and it is deployed in the same way. Each step names the version
of the step before, so that of two who save at once one is Superseded.

A Function that is being deleted has no document: its function is removed for everybody from the moment of the deletion,
and the object stays until workers have let go of it (finalizers.py). A deployment does not wait for that.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import Any, TypeVar

from rescoldo.cluster.objects import (
    LABELS,
    REVISIONS,
    StoredRevision,
    Wish,
    conditions_of,
    document_of,
    finalizers_of,
    function_object,
    read_function,
    read_revision,
    revision_name,
    revision_object,
    status_of,
)
from rescoldo.kube.conditions import with_conditions
from rescoldo.kube.errors import Changed as ChangedMeanwhile
from rescoldo.kube.errors import ClusterUnavailable
from rescoldo.kube.follow import Changed, Follower, Gone, Snapshot
from rescoldo.kube.functions import FUNCTIONS
from rescoldo.kube.protocol import Cluster, Object, Resource
from rescoldo.model.deployed import NEW, Deployed
from rescoldo.model.errors import Conflict, NotFound, RescoldoError, StoreError, Superseded
from rescoldo.model.names import FunctionId, function_id, split_id
from rescoldo.model.revision import Revision
from rescoldo.store.changes import Watchers

ATTEMPTS = 5  # of a save, while others change the object

log = logging.getLogger(__name__)

T = TypeVar("T")


class KubeDocuments:
    """Implements `Documents`. `run` follows the API server until it is cancelled; wait for `ready` before the first
    read."""

    complete = True

    def __init__(self, cluster: Cluster) -> None:
        self.ready = asyncio.Event()  # everything has been read once
        self._cluster = cluster
        self._functions = Follower(cluster, FUNCTIONS, read_function)
        self._followed = Follower(cluster, REVISIONS, read_revision, labels=LABELS)
        self._wishes: dict[FunctionId, Wish] = {}
        self._revisions: defaultdict[str, dict[str, Revision]] = defaultdict(dict)  # by uid of the Function, by name
        self._names: dict[tuple[str, str], StoredRevision] = {}  # of revisions' objects, by namespace and name
        self._watchers = Watchers()
        self._wishing = Watchers()
        self._holding = Watchers()
        self._saving: Counter[FunctionId] = Counter()  # saves of ours under way
        self._unread = {FUNCTIONS, REVISIONS}

    @property
    def problem(self) -> str:
        """Why the API server is not heard at the moment; empty: it is."""
        return self._functions.problem or self._followed.problem

    async def run(self) -> None:
        """Follow functions and revisions, until cancelled."""
        revisions = asyncio.create_task(self._follow_revisions(), name="follow revisions")
        try:
            await self._follow_functions()
        finally:
            revisions.cancel()
            with suppress(asyncio.CancelledError):
                await revisions

    # -- Documents

    async def all(self) -> list[Deployed]:
        found = (self._document(function) for function in sorted(self._wishes))
        return [document for document in found if document is not None]

    async def get(self, function: FunctionId) -> Deployed | None:
        return self._document(function)

    async def put(self, deployed: Deployed) -> int:
        self._saving[deployed.id] += 1
        try:
            return await self._put_patiently(deployed)
        finally:
            self._saving -= Counter((deployed.id,))
            if (wish := self._wishes.get(deployed.id)) is not None:
                self._note_wish(wish)

    async def _put_patiently(self, deployed: Deployed) -> int:
        for attempt in range(ATTEMPTS):
            try:
                return await self._put(deployed)
            except ChangedMeanwhile as error:  # perhaps only a count in its status
                if attempt == ATTEMPTS - 1:
                    raise Superseded from error
            except NotFound as error:
                raise Superseded from error
            except ClusterUnavailable as error:
                raise StoreError(error.message) from error
        raise AssertionError

    async def delete(self, function: FunctionId) -> None:
        name, namespace = split_id(function)
        with suppress(NotFound):
            await self._cluster.delete(FUNCTIONS, name, namespace)
        known = self._wishes.get(function)
        if known is not None and not known.going:  # the watch tells how it goes on
            self._wishes[function] = replace(known, going=True)
            self._watchers.note(function)

    def watch(self) -> AsyncIterator[FunctionId | None]:
        return self._watchers.add()

    def close(self) -> None:
        """End the watchers' iterations."""
        self._watchers.close()
        self._wishing.close()
        self._holding.close()

    def remind(self, function: FunctionId) -> None:
        """Tell the watchers of a document that did not change."""
        self._watchers.note(function)

    # -- what users ask for in the API server

    def wishes(self) -> list[Wish]:
        """Return all Functions."""
        return list(self._wishes.values())

    def wish(self, function: FunctionId) -> Wish | None:
        """Return a Function; None if there is none."""
        return self._wishes.get(function)

    def version(self, function: FunctionId) -> int:
        """Return the version of a function's document; NEW without one."""
        wish = self._wishes.get(function)
        return NEW if wish is None else wish.deployed

    def watch_wishes(self) -> AsyncIterator[FunctionId | None]:
        """Iterate over the Functions whose users ask for what is not deployed; None: any may."""
        return self._wishing.add()

    def watch_holds(self) -> AsyncIterator[FunctionId | None]:
        """Iterate over the Functions that are `misheld`; None: any may be."""
        return self._holding.add()

    async def hold(self, wish: Wish, *, held: bool) -> Object:
        """Put our finalizer on a Function, or take it off. Raises ChangedMeanwhile, NotFound, ClusterUnavailable."""
        name, namespace = split_id(wish.id)
        finalizers = finalizers_of(wish, held=held)
        patch = {"metadata": {"resourceVersion": str(wish.version), "finalizers": finalizers or None}}
        found = await self._cluster.patch(FUNCTIONS, name, patch, namespace)
        if finalizers or not wish.going:
            self._take(read_function(found))
        else:  # it is gone now; the watch may have told that already
            self._drop(wish.id, wish.uid)
        return found

    async def tell(self, wish: Wish, change: Mapping[str, Any]) -> None:
        """Change a Function's status, unless the Function has changed meanwhile. Raises ChangedMeanwhile, NotFound,
        ClusterUnavailable."""
        name, namespace = split_id(wish.id)
        patch = {"metadata": {"resourceVersion": str(wish.version)}, "status": change}
        self._take(read_function(await self._cluster.patch(FUNCTIONS, name, patch, namespace, subresource="status")))

    # -- saving

    async def _put(self, deployed: Deployed) -> int:
        obj = await self._put_spec(deployed)
        names = await self._put_revisions(deployed, obj)
        meta = obj["metadata"]
        version = int(meta["resourceVersion"])
        status = status_of(deployed, version, names) | {"conditions": read_function(obj).conditions}
        status = with_conditions(status, conditions_of(deployed), meta.get("generation") or 0, time.time())
        change = {"metadata": {"resourceVersion": str(version)}, "status": status}
        name, namespace = meta["name"], meta["namespace"]
        done = await self._cluster.patch(FUNCTIONS, name, change, namespace, subresource="status")
        self._take(read_function(done))
        await self._drop_revisions(meta["uid"], namespace, names)
        return version

    async def _put_spec(self, deployed: Deployed) -> Object:
        """Bring the Function's spec to the document's; return the object. Raises ChangedMeanwhile, Superseded."""
        name, namespace = split_id(deployed.id)
        wanted = function_object(deployed.function.spec)
        if deployed.version == NEW:
            with suppress(Conflict):  # else a user has created it, or it was deployed meanwhile
                return await self._cluster.create(FUNCTIONS, wanted)
        found = await self._cluster.get(FUNCTIONS, name, namespace)
        wish = read_function(found)
        if wish.deployed != deployed.version:
            raise Superseded
        if wish.going:
            return await self._create_anew(wish, wanted)
        if wish.spec == deployed.function.spec:
            return found if wish.held else await self.hold(wish, held=True)
        wanted["metadata"]["resourceVersion"] = found["metadata"]["resourceVersion"]
        return await self._cluster.apply(FUNCTIONS, wanted, force=True)

    async def _create_anew(self, gone: Wish, wanted: Object) -> Object:
        """Create a Function in the place of one that is being deleted: workers that have not let go of the earlier one
        get the later one instead. Raises Conflict if somebody else's finalizer keeps the earlier one."""
        if others := finalizers_of(gone, held=False):
            raise Conflict(f"function {gone.id} is being deleted, and waits for {', '.join(others)}; try again later")
        with suppress(NotFound):
            await self.hold(gone, held=False)
        return await self._cluster.create(FUNCTIONS, wanted)

    async def _put_revisions(self, deployed: Deployed, owner: Object) -> set[str]:
        """Create the objects of revisions that have none; return the names of all."""
        uid, name = owner["metadata"]["uid"], owner["metadata"]["name"]
        there, names = self._revisions[uid], set()
        for revision in (Revision.of(deployed.function), *deployed.revisions):
            found = revision_name(name, uid, revision)
            names.add(found)
            if found not in there:
                with suppress(Conflict):  # it is there, and was not told yet
                    await self._cluster.create(REVISIONS, revision_object(revision, owner))
                there[found] = revision
        return names

    async def _drop_revisions(self, uid: str, namespace: str, kept: set[str]) -> None:
        """Delete the objects of revisions that are not kept any more; one that stays is deleted after the next save."""
        for surplus in self._revisions[uid].keys() - kept:
            try:
                await self._cluster.delete(REVISIONS, surplus, namespace)
            except NotFound:
                pass
            except RescoldoError as error:
                log.warning("revision %s stays for now: %s", surplus, error.message)
                continue
            self._revisions[uid].pop(surplus, None)

    # -- following

    async def _follow_functions(self) -> None:
        async for change in _all(self._functions.changes()):
            if isinstance(change, Snapshot):
                for wish in change.objects:
                    self._take(wish)
                self._note_read(FUNCTIONS)
            elif isinstance(change, Changed):
                await self._read_revisions(change.object)
                self._take(change.object)
            else:
                function = function_id(change.name, change.namespace)
                self._drop(function, change.uid)
                self._revisions.pop(change.uid, None)

    async def _follow_revisions(self) -> None:
        async for change in _all(self._followed.changes()):
            if isinstance(change, Snapshot):
                for stored in change.objects:
                    self._take_revision(stored)
                self._note_read(REVISIONS)
            elif isinstance(change, Changed):
                self._take_revision(change.object)
            else:
                gone = self._names.pop((change.namespace, change.name), None)
                if gone is not None:
                    self._revisions[gone.owner].pop(gone.name, None)

    def _note_read(self, resource: Resource) -> None:
        self._unread.discard(resource)
        if not self._unread:
            self.ready.set()

    async def _read_revisions(self, wish: Wish) -> None:
        """Read the revisions that a Function names and that were not told yet. One that is not there was removed."""
        for name in wish.objects:
            if name not in self._revisions[wish.uid]:
                with suppress(NotFound, ClusterUnavailable):
                    found = await self._cluster.get(REVISIONS, name, wish.spec.namespace)
                    self._take_revision(read_revision(found))

    def _drop(self, function: FunctionId, uid: str) -> None:
        """Forget a Function that is gone, unless another has its name by now."""
        known = self._wishes.get(function)
        if known is not None and known.uid == uid:
            del self._wishes[function]
            if not known.going:
                self._watchers.note(function)

    def _take(self, wish: Wish) -> None:
        """Take over a Function, unless a later version of it is known. Tell the watchers of another document."""
        known = self._wishes.get(wish.id)
        if known is not None and (known.version >= wish.version or _was_deleted(known, wish)):
            return
        self._wishes[wish.id] = wish
        if wish.deployed != (NEW if known is None else known.deployed):
            self._watchers.note(wish.id)
        if known is None or wish.generation != known.generation:
            self._note_wish(wish)
        if wish.misheld:
            self._holding.note(wish.id)

    def _note_wish(self, wish: Wish) -> None:
        if wish.undone and not self._saving[wish.id]:
            self._wishing.note(wish.id)

    def _take_revision(self, stored: StoredRevision | None) -> None:
        if stored is not None:
            self._names[stored.namespace, stored.name] = stored
            self._revisions[stored.owner][stored.name] = stored.revision

    def _document(self, function: FunctionId) -> Deployed | None:
        wish = self._wishes.get(function)
        if wish is None:
            return None
        there = self._revisions[wish.uid]
        found = (there[name] for name in wish.objects if name in there)
        return document_of(wish, {one.number: one for one in found})


def _was_deleted(known: Wish, told: Wish) -> bool:
    """Whether the watch tells of a Function as it was before we deleted it."""
    return known.uid == told.uid and known.going and not told.going


async def _all(
    changes: AsyncGenerator[Snapshot[T] | Changed[T] | Gone],
) -> AsyncIterator[Snapshot[T] | Changed[T] | Gone]:
    """The changes, whose generator is closed with the iteration."""
    async with aclosing(changes):
        async for change in changes:
            yield change
