"""The controller: implements Platform on top of the fleet, the store and the bundles."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import platform as machine
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any, cast

from rescoldo import __version__
from rescoldo.bundle.protocol import Bundles
from rescoldo.control.deploy.builds import Builds, BuildStep
from rescoldo.control.deploy.deployments import Deployments, check_not_paused
from rescoldo.control.deploy.images import Images
from rescoldo.control.deploy.namespaces import Namespaces
from rescoldo.control.fleet.cpu import CpuSampler
from rescoldo.control.fleet.entry import Entry
from rescoldo.control.fleet.fleet import Fleet
from rescoldo.control.fleet.outages import outlast
from rescoldo.control.fleet.standings import reason_of, state_of, wanted_of
from rescoldo.control.fleet.waker import Waker
from rescoldo.control.observe import metrics
from rescoldo.control.observe.explain import explain
from rescoldo.control.observe.processes import isolation_found, platform_processes
from rescoldo.control.observe.recorder import Recorder
from rescoldo.control.renewal import Renewal
from rescoldo.isolation.identity import level
from rescoldo.kinds.deployment import notes_of
from rescoldo.model.calls import FailedCall
from rescoldo.model.errors import InvalidInput, NodeUnavailable
from rescoldo.model.function import FunctionSpec, FunctionStatus
from rescoldo.model.instance import LogLine
from rescoldo.model.logcursor import LogCursor
from rescoldo.model.names import FunctionId
from rescoldo.model.revision import RevisionStatus
from rescoldo.model.scaling import MAX_REPLICAS
from rescoldo.model.settings import Settings
from rescoldo.node.protocol import Node, SparePool
from rescoldo.store.protocol import Bundle, Condition, Namespace, Secrets, Store
from rescoldo.tasks import Tasks

log = logging.getLogger(__name__)

LOGS_SECONDS = 0.1  # between attempts to go on with a log that is followed
FORGET_PATIENCE = 2.0  # seconds that a removal waits for a node that restarts
FORGET_SECONDS = 0.5  # between looks whether the node is back


class Controller:
    def __init__(
        self, settings: Settings, store: Store, secrets: Secrets, storage: Bundles, node: Node,
        fleet: Fleet, recorder: Recorder, waker: Waker, tasks: Tasks, renewal: Renewal | None = None,
    ) -> None:
        self._settings = settings
        self._spaces = Namespaces(store, secrets, fleet.entries)
        self._node = node
        self._fleet = fleet
        self._recorder = recorder
        self._waker = waker
        self._tasks = tasks
        self._renewal = renewal
        self._images = Images(store, storage, node, fleet, tasks, settings.max_system_body)
        self._builds = Builds(settings, self._images, tasks)
        self._deployments = Deployments(settings, store, self._spaces, self._images, fleet, tasks, self._forget)
        self._store = store
        self._loss = ""  # what was gone at the start
        self._started_at = time.time()
        self._cpu = CpuSampler()

    def tell_loss(self) -> None:
        """The database was gone, though there are bundles of what it knew: say so for as long as this process runs."""
        self._loss = (
            f"database {self._settings.database}: it was missing or empty at the start, though functions were deployed "
            "here: what was deployed, revisions, namespaces and counts are lost; deploy again, or stop rescoldo and "
            "restore a backup"
        )
        log.error("%s", self._loss)

    def problems(self) -> list[str]:
        database = self._store.condition.problem
        found = [
            f"database {self._settings.database}: {database}" if database else "",
            self._loss,
            self._renewal.problem if self._renewal is not None else "",
        ]
        return [*filter(None, found)]

    async def load(self) -> None:
        """Read what is deployed."""
        await self._builds.prepare()
        await self._images.load()
        await self._spaces.load()
        await self._deployments.load()
        await self._recorder.load()

    # -- functions

    async def functions(self, namespace: str) -> list[FunctionStatus]:
        self._spaces.check(namespace)
        counts = self._recorder.invocations()
        entries = [entry for entry in self._fleet.functions() if entry.function.spec.namespace == namespace]
        return [self._status(entry, counts) for entry in sorted(entries, key=lambda entry: entry.id)]

    async def function(self, function: FunctionId, *, usage: bool = False, why: bool = False) -> FunctionStatus:
        entry = self._deployments.entry(function)
        found = replace(
            self._status(entry, self._recorder.invocations()),
            limits=entry.policy.limits,
            notes=self.notes(entry.function.spec),
        )
        if why:
            found = replace(found, why=explain(entry, asyncio.get_running_loop().time()))
        if not usage:
            return found
        used = await self._node.usage(function) if found.available else []
        cold = self._recorder.cold.of(function).summary(entry.failed_wakes or {})
        memory = sum(one.memory for one in used)
        cpu = self._cpu.millicores(function, used, time.monotonic())
        return replace(found, cpu=cpu, memory=memory, cold_starts=cold, failures=await self._failures(function))

    async def deploy(self, spec: FunctionSpec, *, must_exist: bool, start: bool = True, patience: float = 0.0) -> bool:
        return await self._deployments.deploy(spec, must_exist=must_exist, start=start, patience=patience)

    def notes(self, spec: FunctionSpec) -> list[str]:
        return notes_of(spec, level())

    async def pause(self, function: FunctionId) -> None:
        await self._deployments.pause(function)

    async def resume(self, function: FunctionId) -> None:
        await self._deployments.resume(function)

    async def roll_back(self, function: FunctionId, revision: int | None) -> int:
        return await self._deployments.roll_back(function, revision)

    async def split(self, function: FunctionId, shares: Mapping[int, int]) -> None:
        await self._deployments.split(function, shares)

    async def revisions(self, function: FunctionId) -> list[RevisionStatus]:
        return await self._deployments.revisions(function)

    async def remove(self, function: FunctionId) -> None:
        await self._deployments.remove(function)

    async def scale(self, function: FunctionId, replicas: int) -> None:
        entry = self._deployments.entry(function)
        if not 0 <= replicas <= MAX_REPLICAS:
            raise InvalidInput(f"replicas: {replicas} is not allowed; use 0 to {MAX_REPLICAS}")
        if replicas == 0:
            await self._fleet.asked.change(entry, 0)
            revisions = self._fleet.revisions(function)
            await asyncio.gather(*(self._fleet.unroute(one, "scaled to zero") for one in revisions))
            return
        check_not_paused(entry, "has no instances")
        await self._fleet.wake(function, "asked for with scale, or by an alert")
        await self._fleet.asked.change(entry, replicas)
        self._fleet.replicas.want(entry, replicas, "asked for with scale, or by an alert")

    async def keep_numbers(self) -> None:
        """At the start: see to it that what is to have instances without a call gets them."""
        for entry in self._fleet.entries.values():
            self._fleet.replicas.resize(entry)
            if entry.kept:
                self._tasks.spawn(f"keep awake {entry.key}", self._fleet.keep_awake(entry))
        self._deployments.go_on()

    # -- bundles

    async def bundles(self, image: str | None) -> list[Bundle]:
        return self._images.named(image)

    async def add_bundle(self, image: str, body: AsyncIterator[bytes], digest: str | None) -> Bundle:
        return await self._images.add(image, body, digest)

    async def tag_bundle(self, image: str, digest: str) -> Bundle:
        return await self._images.tag(image, digest)

    async def has_layer(self, digest: str) -> bool:
        return self._images.has_layer(digest)

    async def add_layer(self, body: AsyncIterator[bytes], digest: str | None) -> str:
        return await self._images.add_layer(body, digest)

    async def build(self, body: AsyncIterator[bytes]) -> AsyncGenerator[BuildStep, None]:
        return await self._builds.build(body)

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
        await self._deployments.renew(users, name)

    async def delete_secret(self, namespace: str, name: str) -> None:
        await self._spaces.delete_secret(namespace, name)

    # -- what can be seen

    async def logs(
        self, function: FunctionId, *, tail: int | None, since: float | None, follow: bool, instance: str
    ) -> AsyncIterator[LogLine]:
        self._deployments.entry(function)
        if not follow:
            return self._node.logs(function, tail=tail, since=since, follow=False, instance=instance)
        return self._followed(function, tail, since, instance)

    async def _followed(
        self, function: FunctionId, tail: int | None, since: float | None, instance: str
    ) -> AsyncIterator[LogLine]:
        """Lines until nobody reads them or the function is removed, whatever becomes of the node meanwhile."""
        cursor = LogCursor(time.time())
        while True:
            lines = self._node.logs(function, tail=tail, since=since, follow=True, instance=instance)
            try:
                async with contextlib.aclosing(cast(AsyncGenerator[LogLine, None], lines)):
                    async for line in lines:
                        if not line.instance or cursor.is_new(line.timestamp):  # of no instance: a remark of ours
                            yield line
            except NodeUnavailable:
                pass
            self._deployments.entry(function)
            tail, since = None, cursor.since
            cursor.interrupted()
            await asyncio.sleep(LOGS_SECONDS)

    async def metrics(self) -> bytes:
        replicas = Counter[FunctionId]()
        for entry in self._fleet.entries.values():
            replicas[entry.id] += len(entry.awake.servers) if entry.awake is not None else 0
        awake = {entry.id: entry.awake for entry in self._fleet.functions() if entry.awake is not None}
        waking = metrics.Waking(self._waker.held, self._waker.holds, self._fleet.wakes, self._fleet.failed_wakes)
        spares = await self._spares()
        lifetimes, condition = self._fleet.instances.lifetimes, self._store.condition
        return await metrics.render(self._recorder, replicas, lifetimes, waking, spares, awake, condition)

    async def status(self) -> Mapping[str, Any]:
        entries = list(self._fleet.functions())
        spares = await self._spares()
        awake = [entry.awake for entry in self._fleet.entries.values() if entry.awake is not None]
        return {
            "version": __version__,
            "arch": machine.machine(),
            "python": machine.python_version(),
            "isolation": isolation_found(self._settings) or {"level": level()},
            "data": self._settings.data,
            "problems": self.problems(),
            "database": _told(self._store.condition),
            "gateway": self._settings.gateway,
            **({"certificate": self._settings.tls_cert} if self._settings.tls_cert is not None else {}),
            "metrics": self._settings.metrics,
            "started_at": self._started_at,
            "functions": len(entries),
            "awake": len({one.function.id for one in awake}),
            "instances": sum(len(one.servers) for one in awake),
            "held": self._waker.held,
            "spares": asdict(spares) if spares is not None else {},
            "cold_starts": asdict(self._recorder.cold.all.summary(self._fleet.failed_wakes)),
            "processes": platform_processes(self._settings),
        }

    # -- inside

    async def _failures(self, function: FunctionId) -> list[FailedCall] | None:
        """None while the node restarts."""
        with contextlib.suppress(NodeUnavailable):
            return await self._node.failures(function)
        return None

    async def _spares(self) -> SparePool | None:
        """None while the node restarts."""
        with contextlib.suppress(NodeUnavailable):
            return await self._node.spares()
        return None

    def _status(self, entry: Entry, counts: Mapping[FunctionId, int]) -> FunctionStatus:
        revisions = self._fleet.revisions(entry.id) if entry.function.traffic else [entry]
        running = sum(len(one.awake.servers) for one in revisions if one.awake is not None)
        state = state_of(entry, running)
        return FunctionStatus(
            entry.function,
            sum(map(wanted_of, revisions)),
            running,
            counts.get(entry.id, 0),
            policy=entry.policy,
            state=state,
            reason=reason_of(entry, state),
        )

    async def _forget(self, function: FunctionId) -> None:
        """Forget a removed function's logs and counts, while nothing can be deployed under its name: the next one
        begins anew. Where the node is away for long, they go when it is back, unless the name has been taken again."""
        self._recorder.forget(function)
        try:
            async with asyncio.timeout(FORGET_PATIENCE):
                await outlast(lambda: self._node.forget(function))
        except TimeoutError:
            self._tasks.spawn(f"forget {function}", outlast(lambda: self._forget_later(function), FORGET_SECONDS))

    async def _forget_later(self, function: FunctionId) -> None:
        if function not in self._fleet.entries:
            await self._node.forget(function)


def _told(condition: Condition) -> str:
    """How the database is, in a line."""
    found = condition.problem or "ok"
    if not condition.rewritten:
        return found
    at = datetime.fromtimestamp(condition.rewritten_at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    lost = condition.lost or "nothing"
    return f"{found}; written again {condition.rewritten} times, last {at} ({condition.reason}); lost then: {lost}"
