"""Control as the workers of a namespace see it: what is of another namespace does not exist for them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from rescoldo.bundle.kept import KeptBundles
from rescoldo.bundle.manifest import layer_manifest, manifest_here
from rescoldo.cluster.acknowledgements import Acknowledgements
from rescoldo.cluster.grants import KeptGrants
from rescoldo.cluster.pool import MOST_ROWS, PoolControl
from rescoldo.cluster.reports import Reports
from rescoldo.link.protocol import GONE, Change, Counts, Report, Unreachable
from rescoldo.model.deployed import Deployed
from rescoldo.model.errors import InvalidInput, NotFound
from rescoldo.model.function import Function, FunctionSpec
from rescoldo.model.names import function_id
from rescoldo.store.memory import MemoryDocuments, MemoryStore
from rescoldo.store.protocol import Bundle, MinuteUsage
from support.archives import Tar, sent

FN, FOREIGN = function_id("fn"), function_id("fn", "elsewhere")
ROW = MinuteUsage(FN, 100, 200, True, 3, 4, 5, 6, 7)


class Values(dict[tuple[str, str], bytes]):
    async def values(self, namespace: str, names: Iterable[str]) -> Mapping[str, bytes]:
        try:
            return {name: self[namespace, name] for name in names}
        except KeyError as error:
            raise NotFound(f"no secret {error}") from error


@dataclass
class World:
    archives: KeptBundles
    folder: Path
    documents: MemoryDocuments = field(default_factory=MemoryDocuments)
    store: MemoryStore = field(default_factory=MemoryStore)
    secrets: Values = field(default_factory=Values)
    images: list[Bundle] = field(default_factory=list)
    counted: list[MinuteUsage] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.reports = Reports()
        self.acknowledgements = Acknowledgements(
            self.reports, self.documents.remind, lambda function: self.documents.shared[function].version
        )

    def pool(self, namespace: str = "openfaas-fn") -> PoolControl:
        return PoolControl(
            namespace, self.documents, self.named, self.archives, self.secrets, self.store, self.counted.extend,
            self.reports, KeptGrants.open(self.folder / "grants.json"), self.acknowledgements,
        )  # fmt: skip

    def named(self, image: str) -> list[Bundle]:
        return [one for one in self.images if one.image == image]

    async def upload(self, data: bytes, *, layer: bool = False) -> str:
        storage = self.archives.layers if layer else self.archives
        received = await storage.receive(sent(data), 2**20, None)
        await storage.unpack(received)
        return received.digest


@pytest.fixture
async def world(tmp_path: Path) -> World:
    archives = KeptBundles(tmp_path / "bundles", tmp_path / "uploads")
    await archives.prepare()
    return World(archives, tmp_path)


def layer() -> bytes:
    return Tar(layer_manifest().encode()).file("deps/needed.py").gz()


def bundle(layer: str = "") -> bytes:
    return Tar(manifest_here("python3-http", "http", layer).to_text().encode()).file("function/handler.py").gz()


def deployed(digest: str, *secrets: str, namespace: str = "") -> Deployed:
    return Deployed(Function(FunctionSpec("fn", "me/fn:1", namespace or "openfaas-fn", secrets=secrets), digest, 1.0))


async def test_a_delivery_has_layers_and_secrets(world: World) -> None:
    below = await world.upload(layer(), layer=True)
    digest = await world.upload(bundle(below))
    await world.documents.put(deployed(digest, "word", "lacking"))
    world.secrets["openfaas-fn", "word"], world.secrets["elsewhere", "word"] = b"sesame", b"other"
    found = await world.pool().deliver(FN)
    assert found is not None
    assert (found.layers, found.secrets) == ({digest: below}, {"word": b"sesame"})


async def test_a_function_comes_though_its_bundle_is_lost(world: World) -> None:
    await world.documents.put(deployed("a" * 64))
    found = await world.pool().deliver(FN)
    assert found is not None
    assert found.layers == {}


async def test_archives_come_as_they_were_uploaded(world: World) -> None:
    below = layer()
    under = await world.upload(below, layer=True)
    data = bundle(under)
    digest = await world.upload(data)
    assert b"".join([chunk async for chunk in world.pool().archive("bundles", digest)]) == data
    assert b"".join([chunk async for chunk in world.pool().archive("layers", under)]) == below
    with pytest.raises(NotFound):
        await anext(aiter(world.pool().archive("bundles", "f" * 64)))


async def test_the_disk_has_an_archive_once_and_none_of_its_files(world: World, tmp_path: Path) -> None:
    digest = await world.upload(bundle())
    folder = tmp_path / "bundles" / digest
    assert sorted(path.name for path in folder.iterdir()) == ["archive", "manifest.json"]
    assert (folder / "archive").stat().st_nlink == 1  # the upload itself is gone


async def test_an_image_has_its_bundle_and_layer(world: World) -> None:
    below = await world.upload(layer(), layer=True)
    digest = await world.upload(bundle(below))
    kept = await world.store.save_bundle("me/fn:1", digest, 10, 2.0)
    world.images = await world.store.bundles()
    assert await world.pool().image("me/fn:1") == (kept, below)
    assert await world.pool().image("me/other:1") is None


async def test_functions_of_another_namespace_do_not_exist(world: World) -> None:
    await world.documents.put(deployed("a" * 64, namespace="elsewhere"))
    pool = world.pool()
    assert await pool.versions() == {}
    for attempt in (
        pool.deliver(FOREIGN),
        pool.put(deployed("b" * 64, namespace="elsewhere")),
        pool.delete(FOREIGN),
        pool.count(Counts("me", 1, (replace(ROW, function=FOREIGN),))),
        pool.report(Report("me/1", {FOREIGN: 1}, {}, {})),
        pool.report(Report("me/1", {}, {}, {}, {FOREIGN: 1})),
        pool.grant(FOREIGN, "me"),
        pool.give_back(FOREIGN, "me", "token"),
    ):
        with pytest.raises(InvalidInput, match=r"fn\.elsewhere is not a function of namespace openfaas-fn"):
            await attempt
    assert await world.documents.get(FOREIGN) is not None


async def changes_of(pool: PoolControl) -> AsyncIterator[Change | None]:
    changes = pool.changes()
    assert await anext(changes) is None
    return changes


async def test_changes_are_those_of_the_namespace(world: World) -> None:
    changes = await changes_of(world.pool())
    await world.documents.put(deployed("a" * 64, namespace="elsewhere"))
    version = await world.documents.put(deployed("a" * 64))
    assert await anext(changes) == Change(FN, version)
    await world.documents.delete(FN)
    assert await anext(changes) == Change(FN, GONE)


async def test_a_gap_ends_the_changes_so_that_workers_compare(world: World) -> None:
    changes = await changes_of(world.pool())
    for number in range(1100):  # more than a watcher's queue holds
        await world.documents.put(Deployed(Function(FunctionSpec(f"f{number}", "i"), "", 1.0)))
    with pytest.raises(Unreachable):
        await anext(changes)


async def test_a_batch_counts_once(world: World) -> None:
    pool = world.pool()
    for _ in range(2):
        await pool.count(Counts("me", 1, (ROW,)))
    assert world.counted == [ROW]
    assert await world.store.usage(FN, 0) == [ROW]
    with pytest.raises(InvalidInput, match=f"{MOST_ROWS} are allowed"):
        await pool.count(Counts("me", 2, (ROW,) * (MOST_ROWS + 1)))
