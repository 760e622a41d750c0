"""`Functions` over a store of documents, which keeps each function as one of them (model/deployed.py).

Others may change a document at any time, so a save names the version that it was made of, and fails if the store has
another one. The order of two changes that one process makes is theirs: each reads what the one before has saved.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Protocol
from weakref import WeakValueDictionary

from rescoldo.model.deployed import NEW, Deployed
from rescoldo.model.errors import StoreError, Superseded
from rescoldo.model.function import Function
from rescoldo.model.names import FunctionId
from rescoldo.model.revision import KEPT_REVISIONS, Revision
from rescoldo.model.standing import PLAIN, Standing

GONE = -1  # stands for the version of a document that we have deleted
ATTEMPTS = 3  # to save a change that does not depend on what others have changed meanwhile


class Documents(Protocol):
    """A plug-point: one document a function. Every method raises StoreError if the store fails or cannot be reached.

    `MemoryDocuments` (store/memory.py) is the shipped fake.
    """

    @property
    def complete(self) -> bool:
        """Whether `all` returns all there are. If not, `get` may find others."""
        ...

    async def all(self) -> list[Deployed]:
        """Return the documents of all functions, sorted by id."""
        ...

    async def get(self, function: FunctionId) -> Deployed | None:
        """Return one function's document; None if it is not deployed."""
        ...

    async def put(self, deployed: Deployed) -> int:
        """Save a document in the place of the one with its version (NEW: of none). Return its next version. Raises
        Superseded if the store has another version, or none."""
        ...

    async def delete(self, function: FunctionId) -> None:
        """Forget a document; an unknown one is no error."""
        ...

    def watch(self) -> AsyncIterator[FunctionId | None]:
        """Iterate over the functions whose documents change, ours included; None: any may have changed."""
        ...


class DocumentFunctions:
    """Implements `Functions`."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self._saved: dict[FunctionId, int] = {}  # the version that we saved last, or GONE
        self._turns: WeakValueDictionary[FunctionId, asyncio.Lock] = WeakValueDictionary()

    @property
    def complete(self) -> bool:
        return self._documents.complete

    async def functions(self) -> list[Function]:
        return [one.function for one in await self._documents.all()]

    async def function(self, function: FunctionId) -> Function | None:
        found = await self._documents.get(function)
        return None if found is None else found.function

    async def revisions(self, function: FunctionId) -> list[Revision]:
        found = await self._documents.get(function)
        return [] if found is None else list(found.revisions)

    async def revision_digests(self) -> set[str]:
        every = [one.revisions for one in await self._documents.all()]
        return {one.digest for revisions in every for one in revisions if not one.failure}

    async def requested_replicas(self, of: FunctionId | None = None) -> dict[FunctionId, int]:
        return {one.id: one.requested for one in await self._some(of) if one.requested}

    async def standings(self, of: FunctionId | None = None) -> dict[FunctionId, Standing]:
        return {one.id: one.standing for one in await self._some(of) if one.standing != PLAIN}

    async def _some(self, of: FunctionId | None) -> list[Deployed]:
        """The document of one function, or of all (None)."""
        if of is None:
            return await self._documents.all()
        found = await self._documents.get(of)
        return [] if found is None else [found]

    def watch(self) -> AsyncIterator[FunctionId | None]:
        return self._of_others(self._documents.watch())  # begun here: an async generator begins with its first item

    async def _of_others(self, changes: AsyncIterator[FunctionId | None]) -> AsyncIterator[FunctionId | None]:
        async for changed in changes:
            if changed is None or not await self._is_ours(changed):
                yield changed

    async def save_function(
        self, function: Function, *, keep: int = KEPT_REVISIONS, standing: Standing | None = None
    ) -> None:
        async with self._turn(function.id):
            found = await self._documents.get(function.id)
            if found is None:
                await self._put(Deployed(function, standing=standing or PLAIN))
            else:
                await self._put(found.serving(function, keep, standing))

    async def save_failed(self, function: FunctionId, revision: Revision, *, keep: int = KEPT_REVISIONS) -> None:
        await self._change(function, lambda found: found.failed(revision, keep))

    async def save_requested_replicas(self, function: FunctionId, replicas: int) -> None:
        await self._change(function, lambda found: replace(found, requested=replicas))

    async def save_standing(self, function: FunctionId, standing: Standing) -> None:
        await self._change(function, lambda found: replace(found, standing=standing))

    async def delete_function(self, function: FunctionId) -> None:
        async with self._turn(function):
            await self._documents.delete(function)
            self._saved[function] = GONE

    async def _change(self, function: FunctionId, change: Callable[[Deployed], Deployed]) -> None:
        """Save a change that is the same whatever others have changed: again, if they were faster."""
        async with self._turn(function):
            for attempt in range(ATTEMPTS):
                found = await self._documents.get(function)
                if found is None or (changed := change(found)) == found:
                    return
                try:
                    await self._put(changed)
                except Superseded:
                    if attempt == ATTEMPTS - 1:
                        raise
                else:
                    return

    async def _put(self, deployed: Deployed) -> None:
        self._saved[deployed.id] = await self._documents.put(deployed)

    async def _is_ours(self, function: FunctionId) -> bool:
        """Whether the latest document is the one that we saved: others have changed nothing since."""
        async with self._turn(function):  # our own save may be under way
            try:
                found = await self._documents.get(function)
            except StoreError:  # it is away: whoever reads the change will see that, too
                return False
            if found is None:
                return self._saved.pop(function, NEW) == GONE
            return found.version == self._saved.get(function)

    def _turn(self, function: FunctionId) -> asyncio.Lock:
        """One change of a function at a time."""
        return self._turns.setdefault(function, asyncio.Lock())
