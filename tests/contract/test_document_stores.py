"""What every store of documents promises to `DocumentFunctions`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from rescoldo.cluster.documents import KubeDocuments
from rescoldo.kube.fake import FakeCluster
from rescoldo.model.deployed import Deployed
from rescoldo.model.errors import Superseded
from rescoldo.model.function import Function, FunctionSpec
from rescoldo.model.names import FunctionId
from rescoldo.store.documents import DocumentFunctions, Documents
from rescoldo.store.memory import MemoryDocuments
from support.patience import SLOWNESS

ECHO = Deployed(Function(FunctionSpec("echo", "me/echo:1"), "a" * 64, 1.0))
OTHER = Deployed(Function(FunctionSpec("other", "me/other:1"), "b" * 64, 2.0))


@pytest.fixture(params=["memory", "kubernetes"])
async def documents(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Documents, Documents]]:
    """Two clients of one store."""
    if request.param == "memory":
        ours = MemoryDocuments()
        yield ours, MemoryDocuments(beside=ours)
        return
    cluster = FakeCluster()
    both = KubeDocuments(cluster), KubeDocuments(cluster)
    following = [asyncio.create_task(one.run()) for one in both]
    for one in both:
        await one.ready.wait()
    yield both
    for task in following:
        task.cancel()
    await asyncio.gather(*following, return_exceptions=True)


async def seen(documents: Documents, function: FunctionId, version: int | None) -> Deployed | None:
    """The document, once a client has that version of it (None: none)."""
    async with asyncio.timeout(10 * SLOWNESS):
        while True:
            found = await documents.get(function)
            if (None if found is None else found.version) == version:
                return found
            await asyncio.sleep(0)


async def after(changes: AsyncIterator[FunctionId | None]) -> FunctionId | None:
    async with asyncio.timeout(10 * SLOWNESS):
        return await anext(changes)


async def test_what_is_put_can_be_read_by_all(documents: tuple[Documents, Documents]) -> None:
    ours, theirs = documents
    version = await ours.put(OTHER)
    other = await ours.put(ECHO)
    assert await seen(theirs, OTHER.id, version) == replace(OTHER, version=version)
    assert await seen(theirs, ECHO.id, other) == replace(ECHO, version=other)
    assert [one.id for one in await theirs.all()] == [ECHO.id, OTHER.id]
    assert await theirs.get(FunctionId(ECHO.id.replace("echo", "nobody"))) is None


async def test_a_later_version_is_larger(documents: tuple[Documents, Documents]) -> None:
    ours, theirs = documents
    first = await ours.put(ECHO)
    second = await theirs.put(replace(ECHO, version=first, requested=2))
    assert second > first
    await ours.delete(ECHO.id)
    assert await ours.put(ECHO) > second, "a function that is deployed again is no earlier one"


async def test_only_the_version_that_is_there_can_be_replaced(documents: tuple[Documents, Documents]) -> None:
    ours, theirs = documents
    version = await ours.put(ECHO)
    second = await theirs.put(replace(ECHO, version=version, requested=2))
    for late in (ECHO, replace(ECHO, version=version)):
        with pytest.raises(Superseded):
            await ours.put(late)
    found = await seen(ours, ECHO.id, second)
    assert found is not None
    assert found.requested == 2
    await theirs.delete(ECHO.id)
    await seen(ours, ECHO.id, None)
    with pytest.raises(Superseded):  # nobody brings a removed function back by an old change
        await ours.put(found)
    assert await ours.get(ECHO.id) is None
    await ours.delete(ECHO.id)


async def test_a_watcher_hears_of_every_change(documents: tuple[Documents, Documents]) -> None:
    ours, theirs = documents
    changes = ours.watch()
    version = await theirs.put(ECHO)
    assert await after(changes) == ECHO.id
    await theirs.put(replace(ECHO, version=version, requested=2))
    assert await after(changes) == ECHO.id
    await theirs.delete(ECHO.id)
    assert await after(changes) == ECHO.id


async def test_a_change_that_stays_right_is_made_again_when_another_was_faster() -> None:
    shared = MemoryDocuments()
    await shared.put(ECHO)
    both = [DocumentFunctions(MemoryDocuments(beside=shared)) for _ in range(2)]
    await asyncio.gather(*(one.save_requested_replicas(ECHO.id, n + 1) for n, one in enumerate(both)))
    found = await shared.get(ECHO.id)
    assert found is not None
    assert found.requested in (1, 2)


async def test_a_revision_that_another_has_replaced_meanwhile_is_not_saved_over_it() -> None:
    class Overtaken(MemoryDocuments):
        async def get(self, function: FunctionId) -> Deployed | None:
            found = await super().get(function)
            if found is not None:
                await MemoryDocuments(beside=self).put(replace(found, function=replace(found.function, revision=7)))
            return found

    ours = Overtaken()
    await ours.put(ECHO)
    with pytest.raises(Superseded, match="changed by somebody else"):
        await DocumentFunctions(ours).save_function(replace(ECHO.function, revision=2))
    assert ours.shared[ECHO.id].function.revision == 7
