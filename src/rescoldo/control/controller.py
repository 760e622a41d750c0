"""The controller: implements Platform on top of the fleet, the store and the bundles."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import platform as machine
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any
from weakref import WeakValueDictionary

from rescoldo import __version__
from rescoldo.bundle.storage import BundleStorage
from rescoldo.control import metrics
from rescoldo.control.entry import Entry
from rescoldo.control.explain import explain
from rescoldo.control.fleet import Fleet
from rescoldo.control.namespaces import Namespaces
from rescoldo.control.processes import CpuSampler, platform_processes
from rescoldo.control.recorder import Recorder
from rescoldo.control.tasks import Tasks
from rescoldo.control.waker import Waker
from rescoldo.edge.protocol import Edge
from rescoldo.isolation.identity import level
from rescoldo.model.errors import EdgeUnavailable, InvalidInput, NodeUnavailable, NotFound, UnknownImage
from rescoldo.model.function import (
    Function,
    FunctionPolicy,
    FunctionSpec,
    FunctionStatus,
    check_spec,
    policy_of,
)
from rescoldo.model.instance import LogLine, RunningInstance
from rescoldo.model.names import FunctionId
from rescoldo.model.program import PROCESS
from rescoldo.model.scaling import MAX_REPLICAS
from rescoldo.model.settings import BUNDLE_GIDS, Settings
from rescoldo.node.protocol import Node, SparePool
from rescoldo.policy.placement import check_constraints
from rescoldo.store.protocol import Bundle, Namespace, Secrets, Store

log = logging.getLogger(__name__)

FORGET_SECONDS = 0.5  # between looks whether a removed function's instances are gone, or the node is back
UNUSED_SECONDS = 86400.0  # an image that no function uses may still be deployed for this long


class Controller:
    def __init__(
        self, settings: Settings, store: Store, secrets: Secrets, storage: BundleStorage, node: Node, edge: Edge,
        fleet: Fleet, recorder: Recorder, waker: Waker, tasks: Tasks,
    ) -> None:
        self._settings = settings
        self._store = store
        self._spaces = Namespaces(store, secrets, fleet.entries)
        self._storage = storage
        self._node = node
        self._edge = edge
        self._fleet = fleet
        self._recorder = recorder
        self._waker = waker
        self._tasks = tasks
        self._images: dict[str, Bundle] = {}
        self._started_at = time.time()
        self._cpu = CpuSampler()
        self._using: Counter[str] = Counter()
        # Of what is deployed one change at a time, else the store could keep another one than the fleet
        self._changes: WeakValueDictionary[FunctionId, asyncio.Lock] = WeakValueDictionary()

    async def load(self) -> None:
        """Read what is deployed."""
        self._images = {bundle.image: bundle for bundle in await self._store.bundles()}
        await self._spaces.load()
        for function in await self._store.functions():
            self._fleet.entries[function.id] = Entry(function, self._stored_policy(function))
        await self._recorder.load()

    # -- functions

    async def functions(self, namespace: str) -> list[FunctionStatus]:
        self._spaces.check(namespace)
        counts = self._recorder.invocations()
        entries = [e for e in self._fleet.entries.values() if e.function.spec.namespace == namespace]
        return [_status(entry, counts) for entry in sorted(entries, key=lambda entry: entry.id)]

    async def function(self, function: FunctionId, *, usage: bool = False, why: bool = False) -> FunctionStatus:
        entry = self._entry(function)
        found = _status(entry, self._recorder.invocations())
        if why:
            found = replace(found, why=explain(entry, asyncio.get_running_loop().time()))
        if not usage:
            return found
        used = await self._node.usage(function) if entry.awake is not None else []
        cold = self._recorder.cold.of(function).summary(entry.failed_wakes or {})
        memory = sum(one.memory for one in used)
        cpu = self._cpu.millicores(function, used, time.monotonic())
        return replace(found, cpu=cpu, memory=memory, cold_starts=cold)

    async def deploy(self, spec: FunctionSpec, *, must_exist: bool) -> None:
        policy = check_spec(spec, self._settings.limits)
        check_constraints(spec.constraints, machine.machine(), machine.system())
        self._spaces.check(spec.namespace)
        if must_exist and spec.id not in self._fleet.entries:
            raise NotFound(f"function {spec.id} is not deployed; create it with POST")
        digest = self._image(spec.image).digest
        if policy.program is None and self._storage.kind(digest) == PROCESS:
            raise InvalidInput(
                f"the bundle of {spec.image[:200]} holds a program: set fprocess to its command and the environment "
                "variable upstream_url to where it listens, for example http://127.0.0.1:8000"
            )
        with self._in_use(digest):
            async with self._spaces.deploying(spec), self._changing(spec.id):
                entry = self._fleet.entries.get(spec.id)
                before = entry.function if entry is not None else None
                function = Function(
                    spec,
                    digest,
                    created_at=before.created_at if before is not None else time.time(),
                    revision=before.revision + 1 if before is not None else 1,
                )
                await self._store.save_function(function)
                await self._apply(function, policy)
        self._tasks.spawn("collect bundles", self.collect_bundles())

    async def _renew(self, entry: Entry) -> None:
        """Deploy what is deployed again: what it is given at its start has changed."""
        async with self._changing(entry.id):
            if self._fleet.entries.get(entry.id) is not entry:
                return
            # a later revision, so that no next controller takes over an instance of before
            function = replace(entry.function, revision=entry.function.revision + 1)
            await self._store.save_function(function)
            await self._apply(function, entry.policy)

    async def _apply(self, function: Function, policy: FunctionPolicy) -> None:
        entry = self._fleet.entries.get(function.id)
        if entry is None:
            entry = self._fleet.entries[function.id] = Entry(function, policy)
        else:
            entry.function, entry.policy, entry.failure, entry.fresh = function, policy, None, True
        await self._fleet.unroute(entry)
        if policy.floor:
            self._tasks.spawn(f"keep awake {entry.id}", self._fleet.ensure_floor(entry))

    async def remove(self, function: FunctionId) -> None:
        async with self._changing(function):
            entry = self._entry(function)
            await self._store.delete_function(function)
            del self._fleet.entries[function]
            await self._fleet.unroute(entry)
            entry.removed = True
            self._fleet.instances.lifetimes.forget(function)
        self._recorder.cold.forget(function)
        with contextlib.suppress(EdgeUnavailable):  # a restarted edge is told of those that are left
            await self._edge.drop_route(function)
        self._tasks.spawn("forget logs", self._forget(function))
        self._tasks.spawn("collect bundles", self.collect_bundles())

    async def scale(self, function: FunctionId, replicas: int) -> None:
        entry = self._entry(function)
        if not 0 <= replicas <= MAX_REPLICAS:
            raise InvalidInput(f"replicas: {replicas} is not allowed; use 0 to {MAX_REPLICAS}")
        if replicas == 0:
            await self._fleet.unroute(entry)
            return
        await self._fleet.wake(function)
        if entry.awake is not None:
            entry.awake.floor = replicas
            self._fleet.replicas.want(entry, replicas, "asked for with scale, or by an alert")

    async def keep_floors(self) -> None:
        """At the start: wake what must not sleep."""
        for entry in self._fleet.entries.values():
            if entry.policy.floor:
                self._tasks.spawn(f"keep awake {entry.id}", self._fleet.ensure_floor(entry))

    # -- bundles

    async def bundles(self, image: str | None) -> list[Bundle]:
        return [bundle for name, bundle in sorted(self._images.items()) if image in (None, name)]

    async def add_bundle(self, image: str, body: AsyncIterator[bytes], digest: str | None) -> Bundle:
        received = await self._storage.receive(body, self._settings.max_system_body, digest)
        with self._in_use(received.digest):
            await self._storage.unpack(received)
            return await self._tag(image, received.digest, received.size)

    async def tag_bundle(self, image: str, digest: str) -> Bundle:
        with self._in_use(digest):
            self._storage.path(digest)
            known = next((bundle for bundle in self._images.values() if bundle.digest == digest), None)
            if known is None:  # only functions still use it: its size is not kept
                raise NotFound(f"no image means digest {digest} any more; upload it again")
            return await self._tag(image, digest, known.size)

    async def _tag(self, image: str, digest: str, size: int) -> Bundle:
        bundle = await self._store.save_bundle(image, digest, size, time.time())
        await self._storage.own(digest, BUNDLE_GIDS[bundle.gid % len(BUNDLE_GIDS)])
        self._images[image] = bundle
        self._tasks.spawn("collect bundles", self.collect_bundles())
        return bundle

    async def collect_bundles(self) -> None:
        """Remove bundles that no function, no instance and no fresh image needs; those that only instances on
        their way out still need, once these have gone."""
        while True:
            running = {instance.launch.digest for instance in await self._instances()}
            unneeded = set(self._storage.digests()) - self._needed_digests()
            for digest in unneeded - running:
                if not self._using[digest]:
                    await self._store.delete_bundle(digest)
                    await self._storage.remove(digest)
                    self._images = {name: b for name, b in self._images.items() if b.digest != digest}
            if not unneeded & running:
                return
            await asyncio.sleep(FORGET_SECONDS)

    def _needed_digests(self) -> set[str]:
        """What a function or a fresh image means."""
        fresh = time.time() - UNUSED_SECONDS
        images = {bundle.digest for bundle in self._images.values() if bundle.created_at > fresh}
        return images | {entry.function.digest for entry in self._fleet.entries.values()}

    @contextlib.contextmanager
    def _in_use(self, digest: str) -> Iterator[None]:
        """Keep a bundle from being collected between its arrival and the moment something needs it."""
        self._using[digest] += 1
        try:
            yield
        finally:
            self._using[digest] -= 1
            if not self._using[digest]:
                del self._using[digest]

    # -- namespaces and secrets

    async def namespaces(self) -> list[str]:
        return self._spaces.names()

    async def namespace(self, name: str) -> Namespace:
        return self._spaces.get(name)

    async def save_namespace(self, namespace: Namespace, *, must_exist: bool) -> None:
        await self._spaces.save(namespace, must_exist=must_exist)

    async def delete_namespace(self, name: str) -> None:
        await self._spaces.delete(name)

    async def secrets(self, namespace: str) -> list[str]:
        return await self._spaces.secrets(namespace)

    async def save_secret(self, namespace: str, name: str, value: bytes, *, must_exist: bool) -> None:
        users = await self._spaces.save_secret(namespace, name, value, must_exist=must_exist)
        await asyncio.gather(*(self._renew(entry) for entry in users))

    async def delete_secret(self, namespace: str, name: str) -> None:
        await self._spaces.delete_secret(namespace, name)

    # -- what can be seen

    async def logs(
        self, function: FunctionId, *, tail: int | None, since: float | None, follow: bool, instance: str
    ) -> AsyncIterator[LogLine]:
        self._entry(function)
        return self._node.logs(function, tail=tail, since=since, follow=follow, instance=instance)

    async def metrics(self) -> bytes:
        replicas = {e.id: len(e.awake.servers) if e.awake else 0 for e in self._fleet.entries.values()}
        awake = {e.id: e.awake for e in self._fleet.entries.values() if e.awake is not None}
        waking = metrics.Waking(self._waker.held, self._waker.holds, self._fleet.wakes, self._fleet.failed_wakes)
        spares = await self._spares()
        return metrics.render(self._recorder, replicas, self._fleet.instances.lifetimes, waking, spares, awake)

    async def status(self) -> Mapping[str, Any]:
        entries = self._fleet.entries.values()
        spares = await self._spares()
        return {
            "version": __version__,
            "arch": machine.machine(),
            "python": machine.python_version(),
            "isolation": self._isolation(),
            "data": self._settings.data,
            "gateway": self._settings.gateway,
            "metrics": self._settings.metrics,
            "started_at": self._started_at,
            "functions": len(entries),
            "awake": sum(entry.awake is not None for entry in entries),
            "instances": sum(len(entry.awake.servers) for entry in entries if entry.awake is not None),
            "held": self._waker.held,
            "spares": asdict(spares) if spares is not None else {},
            "cold_starts": asdict(self._recorder.cold.all.summary(self._fleet.failed_wakes)),
            "processes": platform_processes(self._settings),
        }

    # -- inside

    async def _spares(self) -> SparePool | None:
        """None while the node restarts."""
        with contextlib.suppress(NodeUnavailable):
            return await self._node.spares()
        return None

    def _isolation(self) -> Mapping[str, str]:
        """As the node found it; the level alone until it has."""
        with contextlib.suppress(OSError, ValueError):
            return dict(json.loads(self._settings.isolation_file.read_text()))
        return {"level": level()}

    def _changing(self, function: FunctionId) -> asyncio.Lock:
        return self._changes.setdefault(function, asyncio.Lock())

    def _stored_policy(self, function: Function) -> FunctionPolicy:
        """What a later version refuses was allowed once: it must not keep the platform from starting."""
        try:
            return policy_of(function.spec, self._settings.limits)
        except InvalidInput as error:
            log.warning("%s runs with the defaults: %s", function.id, error.message)
            return FunctionPolicy(limits=self._settings.limits)

    def _entry(self, function: FunctionId) -> Entry:
        entry = self._fleet.entries.get(function)
        if entry is None:
            raise NotFound(f"function {function} is not deployed here; see the names with: rescoldo list")
        return entry

    def _image(self, name: str) -> Bundle:
        bundle = self._images.get(name)
        if bundle is None or not self._storage.has(bundle.digest):
            raise UnknownImage(
                f"image {name[:200]!r} was not built or uploaded here, and this platform pulls no images: run "
                "`rescoldo up` (or `rescoldo build` and `rescoldo deploy`) where its stack.yaml is"
            )
        return bundle

    async def _forget(self, function: FunctionId) -> None:
        """Remove a removed function's logs, once nothing writes them and if it has not come back."""
        while any(i.launch.function == function for i in await self._instances()):
            await asyncio.sleep(FORGET_SECONDS)
        while function not in self._fleet.entries:
            try:
                await self._node.forget(function)
                return
            except NodeUnavailable:
                await asyncio.sleep(FORGET_SECONDS)

    async def _instances(self) -> list[RunningInstance]:
        """What runs; waits out a restart of the node."""
        while True:
            try:
                return await self._node.instances()
            except NodeUnavailable:
                await asyncio.sleep(FORGET_SECONDS)


def _status(entry: Entry, counts: Mapping[FunctionId, int]) -> FunctionStatus:
    running = len(entry.awake.servers) if entry.awake is not None else 0
    wanted = entry.awake.wanted if entry.awake is not None else entry.policy.floor
    return FunctionStatus(entry.function, wanted, running, counts.get(entry.id, 0))
