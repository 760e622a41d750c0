"""A control's documents and acknowledgements, with workers that follow its streams; on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rescoldo.bundle.kept import KeptBundles
from rescoldo.cluster.acknowledgements import Acknowledgements
from rescoldo.cluster.documents import KubeDocuments
from rescoldo.cluster.grants import KeptGrants
from rescoldo.cluster.pool import PoolControl
from rescoldo.cluster.reports import Reports
from rescoldo.kube.fake import FakeCluster
from rescoldo.link.protocol import GONE, QUIET_SECONDS, Report
from rescoldo.model.deployed import NEW, Deployed
from rescoldo.model.function import Function, FunctionSpec
from rescoldo.model.names import FunctionId, function_id
from rescoldo.store.memory import MemoryStore

FN, OTHER = function_id("fn"), function_id("other")


@dataclass
class Worker:
    """Takes over each change at once, but for functions in `late`; marks are None for one of an earlier version."""

    pool: PoolControl
    name: str
    late: set[FunctionId] = field(default_factory=set)
    knows_marks: bool = True
    served: dict[FunctionId, int] = field(default_factory=dict)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def begin(self) -> None:
        self.tasks = [asyncio.create_task(self._follow()), asyncio.create_task(self._report_quietly())]
        await self.report({})

    async def report(self, marks: dict[FunctionId, int]) -> None:
        known = marks if self.knows_marks else None
        await self.pool.report(Report(f"{self.name}/1", {}, dict(self.served), {}, known))

    async def leave(self) -> None:
        await self.kill()
        await self.pool.report(Report(f"{self.name}/1", {}, {}, {}, left=True))

    async def kill(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def _follow(self) -> None:
        async for change in self.pool.changes():
            if change is None or change.function in self.late:
                continue
            if change.version == GONE:
                self.served[change.function] = GONE
            elif change.function in self.served:
                self.served[change.function] = change.version
            await asyncio.sleep(0.05)
            await self.report({change.function: change.mark} if change.mark else {})

    async def _report_quietly(self) -> None:
        while True:
            await asyncio.sleep(QUIET_SECONDS)
            await self.report({})


@dataclass
class Cell:
    """A control from its start."""

    folder: Path
    cluster: FakeCluster = field(default_factory=FakeCluster)
    workers: list[Worker] = field(default_factory=list)
    tasks: list[asyncio.Task[Any]] = field(default_factory=list)

    async def begin(self, namespaces: Iterable[str] = ("openfaas-fn",)) -> None:
        self.documents, self.reports = KubeDocuments(self.cluster), Reports()
        self.spawn(self.documents.run())
        await self.documents.ready.wait()
        self.acknowledgements = Acknowledgements(self.reports, self.documents.remind, self.documents.version)
        store, grants = MemoryStore(), KeptGrants.open(self.folder / "grants.json")
        bundles = KeptBundles(self.folder, self.folder)
        self.pools = {
            namespace: PoolControl(
                namespace, self.documents, lambda _: [], bundles, None, store, lambda _: None,  # type: ignore[arg-type]
                self.reports, grants, self.acknowledgements,
            )
            for namespace in namespaces
        }  # fmt: skip

    def spawn(self, work: Any) -> asyncio.Task[Any]:
        self.tasks.append(asyncio.create_task(work))
        return self.tasks[-1]

    async def worker(self, name: str, namespace: str = "openfaas-fn", **more: Any) -> Worker:
        made = Worker(self.pools[namespace], name, **more)
        self.workers.append(made)
        await made.begin()
        await asyncio.sleep(0.01)
        return made

    async def deploy(self, function: FunctionId = FN, image: str = "me/fn:1") -> int:
        name, _, namespace = function.partition(".")
        known = await self.documents.get(function)
        spec = FunctionSpec(name, image, namespace)
        revision = 1 if known is None else known.function.revision + 1
        document = Deployed(Function(spec, "a" * 64, 1.0, revision), version=NEW if known is None else known.version)
        return await self.documents.put(document)

    async def end(self) -> None:
        """End as a process does: what it had in memory is gone."""
        for worker in self.workers:
            await worker.kill()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.workers.clear()
        self.tasks.clear()


@asynccontextmanager
async def running(cell: Cell, **more: Any) -> AsyncIterator[Cell]:
    await cell.begin(**more)
    try:
        yield cell
    finally:
        with suppress(RuntimeError):
            await cell.end()


async def seconds_of(work: Any) -> tuple[float, Any]:
    """How long it takes, and its result."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    result = await work
    return loop.time() - begun, result
