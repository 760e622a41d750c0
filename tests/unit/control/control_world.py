"""The controller's parts over fakes of edge, node and store: only the decisions are real."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any

from rescoldo.assembly.parts import Ports, assemble
from rescoldo.bundle.memory import MemoryBundles
from rescoldo.control.fleet.awake import Awake
from rescoldo.control.fleet.entry import Entry
from rescoldo.control.fleet.life import Stage
from rescoldo.edge.config import is_port_slot
from rescoldo.edge.fake import FakeEdge
from rescoldo.kinds.protocol import NODE
from rescoldo.link.membership import Membership
from rescoldo.model.errors import StartFailed
from rescoldo.model.function import FunctionSpec
from rescoldo.model.instance import Launch
from rescoldo.model.names import FunctionId, InstanceId, function_id
from rescoldo.model.settings import Settings
from rescoldo.node.by_kind import NodesByKind
from rescoldo.node.fake import FakeNode
from rescoldo.node.protocol import Node
from rescoldo.store.memory import MemorySecrets, MemoryStore
from support.controller_ports import MemoryProcesses, MemoryReload

DIGEST = "a" * 64
IMAGE = "some:image"
FN = function_id("fn")
CRASH = StartFailed("fn.openfaas-fn: exit code 1\nValueError: broken at import")


def now() -> float:
    return asyncio.get_running_loop().time()


def serving(world: World, instance: InstanceId) -> int:
    """The revision of an instance."""
    return next(launch.revision for launch in world.node.started if launch.instance == instance)


class _Unexpected(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append(self.format(record))


class World:
    """`await World.make()`; calls go through `edge.call`, which wakes as the edge does."""

    def __init__(
        self, slots: int, settings: Settings, edge: FakeEdge, node: FakeNode, store: MemoryStore,
        secrets: MemorySecrets, bundles: MemoryBundles, membership: Membership | None = None,
    ) -> None:
        self.settings = settings
        self.edge = edge
        self.node = node
        self.store = store
        self.secrets = secrets
        reload = MemoryReload()
        self.reloads = reload.slots  # the numbers of slots with which a reload of the edge was requested
        self.deployed = 0
        self.bundles = bundles
        self.nodes: dict[str, Node] = {NODE: node}  # a test may add others
        self.membership = membership
        nodes = NodesByKind(self.nodes)
        ports = Ports(nodes, edge, store, secrets, bundles, MemoryProcesses(), reload, slots, membership)
        self.controller, platform = assemble(settings, ports)
        self.tasks = self.controller.tasks
        self.slots = self.controller.slots
        self.fleet = self.controller.fleet
        self.sleeper = self.controller.sleeper
        self.recorder = self.controller.recorder
        self.scaler = self.controller.scaler
        self.waker = self.controller.waker
        self.statuses = platform.statuses
        self.deployments = platform.deployments
        self.removals = platform.removals
        self.pauses = platform.pauses
        self.scaling = platform.scaling
        self.upkeep = platform.upkeep
        self.revisions = platform.revisions
        self.traffic = platform.traffic
        self.images = platform.images
        self.namespaces = platform.namespaces
        self.function_secrets = platform.secrets
        self.logs = platform.logs
        self.overview = platform.overview
        self.refusals = self.controller.reconciler._refusals
        edge.wake = self.fleet.wakes.wake
        edge.log = lambda function: self.sleeper.saw_calls(function, 1)
        self._unexpected = _Unexpected()
        logging.getLogger("rescoldo.tasks").addHandler(self._unexpected)

    @classmethod
    async def make(
        cls, slots: int = 8, store: MemoryStore | None = None, membership: Membership | None = None, **settings: Any
    ) -> World:
        chosen = Settings("/nowhere/d", "/nowhere/r", **settings)
        kept = MemoryStore() if store is None else store
        made = cls(slots, chosen, FakeEdge(slots), FakeNode(), kept, MemorySecrets(), MemoryBundles(), membership)
        await made.add_bundle(IMAGE, DIGEST)
        await made.start()
        return made

    async def start(self) -> None:
        await self.controller.load()
        await self.controller.begin()

    async def restart_controller(self) -> World:
        """Kill this controller; return a new one over the same edge, node and store."""
        await self.tasks.close()
        for entry in self.fleet.entries.values():
            if entry.waking is not None:
                entry.waking.cancel()
        logging.getLogger("rescoldo.tasks").removeHandler(self._unexpected)
        made = World(
            self.slots.size, self.settings, self.edge, self.node, self.store, self.secrets, self.bundles,
            self.membership,
        )  # fmt: skip
        await made.start()
        return made

    async def add_bundle(self, image: str, digest: str, *, created_at: float | None = None) -> None:
        """Store a bundle and give it the name `image`, created now or at `created_at` (Unix seconds)."""
        self.bundles.put(digest)
        await self.store.save_bundle(image, digest, 1, time.time() if created_at is None else created_at)

    async def close(self) -> None:
        await self.tasks.close()
        logging.getLogger("rescoldo.tasks").removeHandler(self._unexpected)

    # -- actions and observations of tests

    async def deploy(
        self, name: str = "fn", *, window: str = "1h", minimum: int = 0, concurrency: int = 10,
        exec_timeout: str = "30s", upstream: str = "", version: str = "", rollout: str = "checked",
        notes: Mapping[str, str] | None = None, first: str = "immediate", **labels: str,
    ) -> Entry:
        """Deploy or update a function; with `upstream` a program. Each deployment makes a new revision, but the same
        `version` makes none. A first deployment starts nothing, unless `first` is "checked"."""
        self.deployed += 1
        spec = FunctionSpec(
            name, IMAGE,
            env_process="./server" if upstream else "",
            env_vars={
                "exec_timeout": exec_timeout, "VERSION": version or str(self.deployed),
                **({"upstream_url": upstream} if upstream else {}),
            },
            labels={"com.openfaas.scale.min": str(minimum), **labels},
            annotations={
                "rescoldo.dev/idle-window": window, "rescoldo.dev/concurrency": str(concurrency),
                "rescoldo.dev/rollout": rollout, **(notes or {}),
            },
        )
        start = first == "checked" or spec.id in self.fleet.entries
        await self.deployments.deploy(spec, must_exist=False, start=start)
        return self.fleet.entries[spec.id]

    def hold_calls(self) -> asyncio.Event:
        """Keep calls in flight in their instances until the event is set."""
        finish = asyncio.Event()

        async def work(function: FunctionId, instance: InstanceId) -> None:
            await finish.wait()

        self.edge.work = work
        return finish

    def awake(self, name: str = "fn") -> Awake:
        awake = self.fleet.entries[function_id(name)].awake
        assert awake is not None
        return awake

    def asleep(self, name: str = "fn") -> bool:
        entry = self.fleet.entries[function_id(name)]
        return entry.awake is None and entry.waking is None

    def instances(self, name: str = "fn") -> list[InstanceId]:
        return list(self.awake(name).servers)

    async def running(self) -> list[InstanceId]:
        return [running.launch.instance for running in await self.node.instances()]

    def lost(self, instance: InstanceId) -> None:
        self.node.lose(instance)

    async def until(self, condition: Any, seconds: float = 60.0) -> None:
        """Let (virtual) time pass until a condition holds, with a delay of at most 1 %: each look costs the virtual
        loop dozens of rounds."""
        begin = asyncio.get_running_loop().time()
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(max(0.001, (asyncio.get_running_loop().time() - begin) / 100))

    async def settle(self, seconds: float = 120.0) -> None:
        """Let everything in progress end, then check that all parts agree."""
        await asyncio.sleep(seconds)
        await self.check()

    async def check(self) -> None:
        """Check that edge, node, slots and fleet agree."""
        assert self._unexpected.seen == []
        entries = self.fleet.entries.values()
        awake = [entry.awake for entry in entries if entry.awake is not None]
        assert all((entry.awake is None) | (entry.waking is None) for entry in entries)
        assert all(one.stage is Stage.SERVING for one in awake), "something is half asleep"
        lent = [one.slot for one in awake]
        assert len(set(lent)) == len(lent), "a slot is lent twice"
        plain = [slot for slot in lent if not is_port_slot(slot)]
        assert self.slots.free == self.slots.size - len(plain), "a slot was not given back"
        live = {(server.slot, server.instance) for server in self.fleet.instances.live.values()}
        assert live == {(one.slot, instance) for one in awake for instance in one.servers}
        assert await self.edge.servers() == live
        assert sorted(await self.running()) == sorted(self.fleet.instances.live), "an instance leaked, or ended unseen"
        existing = self.fleet.instances.lifetimes._since
        assert sorted(existing) == sorted(self.fleet.instances.live), "its time is counted for ever, or not at all"
        assert self.edge.routes == {entry.key: entry.route for entry in entries}
        for one in awake:
            assert len(one.servers) == one.wanted


def stray(name: str, instance: str, *, digest: str = DIGEST, revision: int = 1, generation: int = 0) -> Launch:
    """The launch of an instance that an earlier controller started."""
    function = function_id(name)
    return Launch(InstanceId(instance), function, digest, revision=revision, generation=generation)


