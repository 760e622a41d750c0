"""Control, as the workers of one namespace see it: the real `Control` behind the link."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Protocol

from rescoldo.bundle.kept import KeptBundles
from rescoldo.cluster.acknowledgements import Acknowledgements
from rescoldo.cluster.grants import KeptGrants
from rescoldo.cluster.reports import Reports
from rescoldo.link.protocol import GONE, HEARTBEAT_SECONDS, Archive, Change, Counts, Delivery, Report, Unreachable
from rescoldo.model.deployed import Deployed
from rescoldo.model.errors import InvalidInput, NotFound
from rescoldo.model.names import FunctionId, split_id
from rescoldo.policy.grants import Grant
from rescoldo.store.documents import Documents
from rescoldo.store.protocol import Batches, Bundle, MinuteUsage

MOST_ROWS = 50_000  # of one batch of counts


class SecretValues(Protocol):
    """The values of functions' secrets."""

    async def values(self, namespace: str, names: Iterable[str]) -> Mapping[str, bytes]:
        """Return some by name. Raises NotFound and InvalidInput for one that has no value for functions, StoreError."""
        ...


class PoolControl:
    """Implements `Control` for the functions of one namespace; whatever is of another one is refused."""

    def __init__(
        self,
        namespace: str,
        documents: Documents,
        named: Callable[[str], Sequence[Bundle]],
        archives: KeptBundles,
        secrets: SecretValues,
        batches: Batches,
        on_counts: Callable[[Iterable[MinuteUsage]], None],
        reports: Reports,
        grants: KeptGrants,
        acknowledgements: Acknowledgements,
    ) -> None:
        """`named` returns the bundle that an image name points to, if there is one; `on_counts` gets the counts that
        have been saved; `reports` what workers report, and `acknowledgements` the marks in it."""
        self._grants = grants
        self._acknowledgements = acknowledgements
        self._reports = reports
        self._namespace = namespace
        self._documents = documents
        self._named = named
        self._archives = archives
        self._secrets = secrets
        self._batches = batches
        self._on_counts = on_counts

    async def deliver(self, function: FunctionId) -> Delivery | None:
        self._check(function)
        found = await self._documents.get(function)
        if found is None:
            return None
        revisions = [one for one in found.revisions if one.number in found.function.traffic]
        layers = {}
        for digest in {found.function.digest, *(one.digest for one in revisions)}:
            with suppress(NotFound, InvalidInput):  # the worker may have it
                if layer := self._archives.layer(digest):
                    layers[digest] = layer
        names = {name for spec in (found.function.spec, *(one.spec for one in revisions)) for name in spec.secrets}
        return Delivery(found, layers, await self.secrets(names))

    async def secrets(self, names: Collection[str]) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for name in names:
            with suppress(NotFound, InvalidInput):  # the instance's start says so
                found |= await self._secrets.values(self._namespace, (name,))
        return found

    async def versions(self) -> dict[FunctionId, int]:
        return {one.id: one.version for one in await self._documents.all() if self._is_ours(one.id)}

    async def changes(self) -> AsyncIterator[Change | None]:
        told = self._documents.watch()
        yield None
        for asked in self._acknowledgements.asked(self._namespace):
            yield await self._change(asked)
        following: asyncio.Future[FunctionId | None] | None = None
        try:
            while True:
                following = following or asyncio.ensure_future(anext(told))
                await asyncio.wait((following,), timeout=HEARTBEAT_SECONDS)
                if not following.done():
                    yield None
                    continue
                try:
                    function, following = following.result(), None
                except StopAsyncIteration as end:
                    raise Unreachable("control ends") from end
                if function is None:
                    raise Unreachable("changes were missed: all versions must be compared")
                if self._is_ours(function):
                    yield await self._change(function)
        finally:
            if following is not None:
                following.cancel()

    async def _change(self, function: FunctionId) -> Change:
        mark = self._acknowledgements.mark(function)  # before the document: whoever sees the mark sees the change
        found = await self._documents.get(function)
        return Change(function, GONE if found is None else found.version, mark)

    async def put(self, document: Deployed) -> int:
        self._check(document.id)
        return await self._documents.put(document)

    async def delete(self, function: FunctionId) -> None:
        self._check(function)
        await self._documents.delete(function)

    async def image(self, image: str) -> tuple[Bundle, str] | None:
        found = self._named(image)
        return (found[0], self._archives.layer(found[0].digest)) if found else None

    async def archive(self, kind: Archive, digest: str) -> AsyncIterator[bytes]:
        storage = self._archives if kind == "bundles" else self._archives.layers
        async for chunk in storage.archive(digest):
            yield chunk

    async def report(self, report: Report) -> None:
        for function in (*report.awake, *report.applied, *report.refused, *(report.marks or ())):
            self._check(function)
        self._reports.take(report, self._namespace)
        self._acknowledgements.take(report)

    async def grant(self, function: FunctionId, sender: str) -> Grant:
        self._check(function)
        return await self._grants.grant(function, sender)

    async def give_back(self, function: FunctionId, sender: str, token: str) -> None:
        self._check(function)
        await self._grants.give_back(function, sender, token)

    async def count(self, counts: Counts) -> None:
        if len(counts.rows) > MOST_ROWS:
            raise InvalidInput(f"a batch of counts has {len(counts.rows)} rows; {MOST_ROWS} are allowed")
        for row in counts.rows:
            self._check(row.function)
        if await self._batches.add_batch(counts.sender, counts.number, counts.rows, int(time.time()) // 60):
            self._on_counts(counts.rows)

    def _is_ours(self, function: FunctionId) -> bool:
        return split_id(function)[1] == self._namespace

    def _check(self, function: FunctionId) -> None:
        if not self._is_ours(function):
            raise InvalidInput(f"{function[:200]} is not a function of namespace {self._namespace}")
