"""A `Control` in memory, for tests of workers: it keeps documents, archives, counts and reports, and can go away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, field

from rescoldo.link.protocol import GONE, HEARTBEAT_SECONDS, Archive, Change, Counts, Delivery, Report, Unreachable
from rescoldo.model.deployed import Deployed
from rescoldo.model.errors import NotFound
from rescoldo.model.names import FunctionId
from rescoldo.policy.grants import Grant, GrantBook
from rescoldo.store.memory import MemoryDocuments
from rescoldo.store.protocol import Bundle, MinuteUsage

CHUNK = 65536  # bytes


@dataclass(eq=False)
class MemoryControl:
    """Implements `Control`; `away` makes every method raise Unreachable and ends the streams."""

    documents: MemoryDocuments = field(default_factory=MemoryDocuments)
    images: dict[str, tuple[Bundle, str]] = field(default_factory=dict)
    archives: dict[tuple[Archive, str], bytes] = field(default_factory=dict)
    layers: dict[str, str] = field(default_factory=dict)  # by digest of the bundle
    secret_values: dict[tuple[str, str], bytes] = field(default_factory=dict)  # by namespace and name
    counted: list[MinuteUsage] = field(default_factory=list)
    reported: dict[str, Report] = field(default_factory=dict)  # all that each sender told
    reports: int = 0  # that came
    marks: dict[FunctionId, int] = field(default_factory=dict)  # of the next changes
    marked: dict[FunctionId, int] = field(default_factory=dict)  # that came back
    asked: list[FunctionId] = field(default_factory=list)  # deliveries that were asked for
    _tokens: int = 0
    _book: GrantBook | None = None
    _last: dict[str, int] = field(default_factory=dict)  # number of the last batch, by sender
    _gone: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def away(self) -> bool:
        return self._gone.is_set()

    def leave(self) -> None:
        """Cannot be reached from now on."""
        self._gone.set()

    def come_back(self) -> None:
        """Can be reached again, with what it had."""
        self._gone.clear()

    def _check(self) -> None:
        if self.away:
            raise Unreachable

    async def deliver(self, function: FunctionId) -> Delivery | None:
        self.asked.append(function)
        await asyncio.sleep(0.001)
        self._check()
        found = await self.documents.get(function)
        if found is None:
            return None
        spec = found.function.spec
        wanted = {name: self.secret_values.get((spec.namespace, name)) for name in spec.secrets}
        return Delivery(found, dict(self.layers), {name: value for name, value in wanted.items() if value is not None})

    async def versions(self) -> dict[FunctionId, int]:
        self._check()
        return {one.id: one.version for one in await self.documents.all()}

    async def changes(self) -> AsyncIterator[Change | None]:
        self._check()
        told = self.documents.watch()
        yield None
        gone = asyncio.ensure_future(self._gone.wait())
        following: asyncio.Future[FunctionId | None] | None = None
        try:
            while True:
                following = following or asyncio.ensure_future(anext(told))
                await asyncio.wait((following, gone), timeout=HEARTBEAT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                if self.away:
                    raise Unreachable
                if not following.done():
                    yield None
                    continue
                function, following = following.result(), None
                assert function is not None
                found = await self.documents.get(function)
                yield Change(function, GONE if found is None else found.version, self.marks.get(function, 0))
        finally:
            gone.cancel()
            if following is not None:
                following.cancel()

    async def put(self, document: Deployed) -> int:
        self._check()
        return await self.documents.put(document)

    async def delete(self, function: FunctionId) -> None:
        self._check()
        await self.documents.delete(function)

    async def image(self, image: str) -> tuple[Bundle, str] | None:
        self._check()
        return self.images.get(image)

    async def secrets(self, names: Collection[str]) -> dict[str, bytes]:
        self._check()
        return {name: value for (_, name), value in self.secret_values.items() if name in names}

    async def archive(self, kind: Archive, digest: str) -> AsyncIterator[bytes]:
        self._check()
        data = self.archives.get((kind, digest))
        if data is None:
            raise NotFound(f"no {kind} with digest {digest[:80]} is stored in control")
        for begin in range(0, len(data), CHUNK):
            yield data[begin : begin + CHUNK]

    async def count(self, counts: Counts) -> None:
        self._check()
        if counts.number > self._last.get(counts.sender, 0):
            self._last[counts.sender] = counts.number
            self.counted += counts.rows

    async def report(self, report: Report) -> None:
        self._check()
        self.reports += 1
        self.reported.pop(report.earlier, None)
        self.marked |= report.marks or {}
        if report.left:
            self.reported.pop(report.sender, None)
        else:
            self.reported[report.sender] = report.upon(self.reported.get(report.sender))

    async def grant(self, function: FunctionId, sender: str) -> Grant:
        self._check()
        self._tokens += 1
        now = asyncio.get_running_loop().time()
        if self._book is None:
            self._book = GrantBook(now, {})
        return self._book.grant(function, sender, f"t{self._tokens}", now)

    async def give_back(self, function: FunctionId, sender: str, token: str) -> None:
        self._check()
        if self._book is not None:
            self._book.give_back(function, sender, token)
