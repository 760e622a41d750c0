"""What every source of functions promises: it reports changes that others make, and they can be applied."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from rescoldo.cluster.documents import KubeDocuments
from rescoldo.kube.fake import FakeCluster
from rescoldo.model.deployed import Deployed
from rescoldo.model.errors import StoreError
from rescoldo.model.function import Function, FunctionSpec
from rescoldo.model.names import FunctionId, function_id
from rescoldo.model.revision import Revision
from rescoldo.model.standing import Standing
from rescoldo.store.documents import DocumentFunctions
from rescoldo.store.memory import MemoryDocuments, MemoryFunctions
from rescoldo.store.protocol import Functions, FunctionSource
from rescoldo.store.sqlite.store import SqliteStore
from support.outside_functions import OutsideFunctions
from support.patience import SLOWNESS

A, B = "a" * 64, "b" * 64
ECHO = Function(FunctionSpec("echo", "me/echo:1"), A, 1.0)
OTHER = Function(FunctionSpec("other", "me/other:1"), B, 2.0)


@dataclass
class Shared:
    """A source as a controller has it; `save` and `delete` are changes that others make."""

    source: FunctionSource
    save: Callable[[Function], Awaitable[None]]
    delete: Callable[[FunctionId], Awaitable[None]]


@dataclass
class Follower:
    """Applies changes as a controller does: it reads the changed function again, or all of them."""

    source: FunctionSource
    known: dict[FunctionId, Function]

    async def apply(self, changed: FunctionId | None) -> None:
        if changed is None:
            self.known = {function.id: function for function in await self.source.functions()}
        elif (function := await self.source.function(changed)) is None:
            self.known.pop(changed, None)
        else:
            self.known[changed] = function


@pytest.fixture(params=["memory", "sqlite", "outside", "kubernetes"])
async def shared(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Shared]:
    if request.param == "outside":
        outside = OutsideFunctions()

        async def save(function: Function) -> None:
            outside.put(function)

        async def delete(function: FunctionId) -> None:
            outside.take_away(function)

        yield Shared(outside, save, delete)
        return
    async with AsyncExitStack() as opened:
        ours: Functions
        theirs: Functions
        if request.param == "memory":
            ours = MemoryFunctions()
            theirs = ours.beside()
        elif request.param == "kubernetes":
            cluster = FakeCluster()
            both = KubeDocuments(cluster), KubeDocuments(cluster)
            for one in both:
                following = asyncio.create_task(one.run())
                opened.callback(following.cancel)
                await one.ready.wait()
            ours, theirs = map(DocumentFunctions, both)
        else:
            monkeypatch.setattr("rescoldo.store.sqlite.writer.LOOK_SECONDS", 0.01)
            monkeypatch.setattr("rescoldo.store.sqlite.others.SECONDS", 0.0)
            ours, theirs = [await SqliteStore.open(tmp_path / "db") for _ in range(2)]
            opened.push_async_callback(ours.close)
            opened.push_async_callback(theirs.close)
        yield Shared(ours, _seen(ours, theirs.save_function), _seen(ours, theirs.delete_function))


def _seen(ours: Functions, change: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """Make a change of others that has ended once `ours` shows it, since a watch may tell of it later."""

    async def changed(what: Function | FunctionId) -> None:
        await change(what)
        name, wanted = (what.id, what) if isinstance(what, Function) else (what, None)
        async with asyncio.timeout(10 * SLOWNESS):
            while await ours.function(name) != wanted:
                await asyncio.sleep(0)

    return changed


async def after(changes: AsyncIterator[FunctionId | None]) -> FunctionId | None:
    async with asyncio.timeout(5 * SLOWNESS):
        return await anext(changes)


async def test_watch_reports_a_function_that_others_save(shared: Shared) -> None:
    changes = shared.source.watch()
    await shared.save(ECHO)
    assert await after(changes) in (ECHO.id, None)
    assert await shared.source.function(ECHO.id) == ECHO
    assert await shared.source.functions() == [ECHO]


async def test_watch_reports_a_function_that_others_change_and_its_past_revision_can_be_read(shared: Shared) -> None:
    await shared.save(ECHO)
    changes = shared.source.watch()
    await shared.save(replace(ECHO, digest=B, revision=2, revised_at=5.0))
    assert await after(changes) in (ECHO.id, None)
    assert await shared.source.revisions(ECHO.id) == [Revision(1, ECHO.spec, A, ECHO.revised_at)]
    assert await shared.source.revision_digests() == {A}


async def test_watch_reports_a_function_that_others_remove(shared: Shared) -> None:
    await shared.save(ECHO)
    await shared.save(OTHER)
    changes = shared.source.watch()
    await shared.delete(ECHO.id)
    assert await after(changes) in (ECHO.id, None)
    assert await shared.source.function(ECHO.id) is None
    assert await shared.source.functions() == [OTHER]


async def test_a_change_between_watching_and_reading_is_not_missed(shared: Shared) -> None:
    changes = shared.source.watch()
    await shared.save(ECHO)
    follower = Follower(shared.source, {})
    await follower.apply(None)
    await shared.save(OTHER)
    while follower.known != {ECHO.id: ECHO, OTHER.id: OTHER}:
        await follower.apply(await after(changes))


async def test_a_follower_that_applies_all_changes_ends_with_the_sources_functions(shared: Shared) -> None:
    changes, follower = shared.source.watch(), Follower(shared.source, {})
    expected: dict[FunctionId, Function] = {}
    for number in range(1, 30):
        function = replace(ECHO, spec=replace(ECHO.spec, name=f"f{number % 4}"), revision=number)
        if number % 3 == 0:
            await shared.delete(function.id)
            expected.pop(function.id, None)
        else:
            await shared.save(function)
            expected[function.id] = function
        if number % 5 == 0:  # the follower is slower than the changes
            await follower.apply(await after(changes))
    while follower.known != expected:
        await follower.apply(await after(changes))


async def test_two_watchers_both_get_a_change(shared: Shared) -> None:
    both = [shared.source.watch() for _ in range(2)]
    await shared.save(ECHO)
    assert {await after(changes) for changes in both} <= {ECHO.id, None}


async def test_a_source_that_may_have_missed_changes_asks_for_a_full_read() -> None:
    outside = OutsideFunctions()
    changes = outside.watch()
    outside.lose_sight()
    assert await after(changes) is None


# -- sources that can be written to


async def test_a_store_does_not_report_its_own_changes() -> None:
    ours = MemoryFunctions()
    theirs = ours.beside()
    changes = ours.watch()
    await ours.save_function(ECHO)
    await ours.save_requested_replicas(ECHO.id, 2)
    await ours.save_standing(ECHO.id, Standing(paused=True))
    await ours.delete_function(ECHO.id)
    await theirs.save_function(OTHER)
    assert await after(changes) == OTHER.id


async def test_the_iteration_ends_with_its_store(tmp_path: Path) -> None:
    for store in (MemoryFunctions(), await SqliteStore.open(tmp_path / "db")):
        changes = store.watch()
        await store.close()
        assert [changed async for changed in changes] == []


async def test_a_store_that_is_away_when_a_change_is_told_does_not_end_the_watch() -> None:
    class Away(MemoryDocuments):
        away = False

        async def get(self, function: FunctionId) -> Deployed | None:
            if self.away:
                raise StoreError
            return await super().get(function)

    documents = Away()
    changes = DocumentFunctions(documents).watch()
    documents.away = True
    for name in ("one", "two"):
        await MemoryDocuments(beside=documents).put(Deployed(Function(FunctionSpec(name, "i"), "a" * 64, 1.0)))
        assert await anext(changes) == function_id(name)
