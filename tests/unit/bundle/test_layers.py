"""Layers: requirements that bundles share and name by digest."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import time
from pathlib import Path

import pytest
from test_storage import LIMIT, add

from rescoldo.bundle import layers
from rescoldo.bundle.layers import LayerStorage
from rescoldo.bundle.manifest import layer_manifest, manifest_here
from rescoldo.bundle.storage import BundleStorage
from rescoldo.model.errors import InvalidInput, NotFound
from rescoldo.model.ids import BUNDLE_GIDS, LAYER_GIDS
from support.archives import Tar, sent

DAY = 86400.0


@pytest.fixture
async def storage(tmp_path: Path) -> BundleStorage:
    made = BundleStorage(tmp_path / "bundles", tmp_path / "uploads", own_gids=False)
    await made.prepare()
    return made


def layer(content: bytes = b"X = 1\n", manifest: str | None = None) -> bytes:
    return Tar((manifest or layer_manifest()).encode()).file("deps/needed.py", content).gz()


def bundle(digest: str, code: bytes = b"code", style: str = "http") -> Tar:
    return Tar(manifest_here("python3-http", style, digest).to_text().encode()).file("function/handler.py", code)


async def add_layer(storage: BundleStorage, data: bytes) -> str:
    received = await storage.layers.receive(sent(data), LIMIT, None)
    await storage.layers.unpack(received)
    return received.digest


async def test_a_bundle_finds_its_requirements_in_its_layer(storage: BundleStorage) -> None:
    sent_layer = layer()  # made once: a gzip names the second of its making
    digest = await add_layer(storage, sent_layer)
    assert digest == hashlib.sha256(sent_layer).hexdigest() and storage.layers.has(digest)
    first, second = [await add(storage, bundle(digest, code).gz()) for code in (b"one", b"two")]
    for folder in (first, second):
        assert (folder / "deps" / "needed.py").read_bytes() == b"X = 1\n"
        assert (folder / "deps").resolve() == storage.layers.path(digest) / "deps"
    assert sorted(storage.digests()) == sorted([first.name, second.name])


async def test_a_bundle_with_an_unknown_layer_is_refused(storage: BundleStorage, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="its layer of requirements is not stored here"):
        await add(storage, bundle("b" * 64).gz())
    assert storage.digests() == [] and list((tmp_path / "uploads").iterdir()) == []


@pytest.mark.parametrize("digest", ["..", "../../etc", "x", 5, ["a"], {"a": 1}])
async def test_a_layers_digest_cannot_name_another_path(storage: BundleStorage, digest: object) -> None:
    manifest = json.loads(manifest_here("python3-http", "http").to_text()) | {"schema": 2, "layer": digest}
    with pytest.raises(InvalidInput, match="its layer of requirements is not stored here"):
        await add(storage, Tar(json.dumps(manifest).encode()).gz())


async def test_a_bundle_with_a_layer_may_not_also_contain_requirements(storage: BundleStorage) -> None:
    digest = await add_layer(storage, layer())
    for tar in (bundle(digest).file("deps/x.py"), bundle(digest).link("deps", "function")):
        with pytest.raises(InvalidInput, match="names a layer and brings deps/ too"):
            await add(storage, tar.gz())


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (Tar().file("deps/x.py").gz(), "not a layer of requirements"),
        (Tar(layer_manifest().encode()).file("other/x.py").gz(), "has no folder deps"),
        (Tar(layer_manifest().encode()).file("other/x.py").link("deps", "other").gz(), "has no folder deps"),
        (layer(manifest=layer_manifest().replace('"3.', '"2.')), "the layer was built for Python 2."),
        (Tar(layer_manifest().encode()).file("deps/../../x").gz(), "leads out"),
        (b"no archive", "not a whole gzip file"),
    ],
)
async def test_an_invalid_layer_is_refused_and_leaves_nothing(
    storage: BundleStorage, tmp_path: Path, data: bytes, words: str
) -> None:
    with pytest.raises(InvalidInput, match=words):
        await add_layer(storage, data)
    assert storage.layers.digests() == [] and list((tmp_path / "uploads").iterdir()) == []


async def test_a_layer_is_removed_when_no_bundle_names_it_and_no_client_asked_for_it_lately(
    storage: BundleStorage
) -> None:
    kept, unused = [await add_layer(storage, layer(content)) for content in (b"kept", b"unused")]
    folder = await add(storage, bundle(kept).gz())
    now = time.time()
    await storage.collect_layers(now)
    assert sorted(storage.layers.digests()) == sorted([kept, unused])
    for digest in (kept, unused):
        os.utime(storage.layers.path(digest), (now - 2 * DAY, now - 2 * DAY))
    await storage.collect_layers(now)
    assert storage.layers.digests() == [kept]
    assert (folder / "deps" / "needed.py").read_bytes() == b"kept"
    await storage.remove(folder.name)
    await storage.collect_layers(now)
    assert storage.layers.digests() == []


async def test_unused_layers_are_bounded_in_bytes_and_the_least_recently_requested_go_first(
    storage: BundleStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layers, "UNUSED_BYTES", 2_500_000)
    named, oldest, older, old, *new = [
        await add_layer(storage, layer(name * 1_000_000)) for name in (b"n", b"0", b"1", b"2", b"3", b"4")
    ]
    await add(storage, bundle(named).gz())
    now = time.time()
    for digest, ago in ((named, 9000), (oldest, 8000), (older, 7000), (old, 6000)):
        os.utime(storage.layers.path(digest), (now - ago, now - ago))
    await storage.collect_layers(now)
    assert set(storage.layers.digests()) == {named, *new}, "the two new ones of a megabyte are younger than ten minutes"
    for digest in new:
        os.utime(storage.layers.path(digest), (now - 5000, now - 5000))
    again = await add_layer(storage, layer(b"5" * 1_000_000))
    assert storage.layers.touch(new[0])
    await storage.collect_layers(time.time() + layers.COMING_SECONDS + 1)
    assert set(storage.layers.digests()) == {named, again, new[0]}


async def test_a_layer_that_a_client_asked_for_is_kept(storage: BundleStorage) -> None:
    digest = await add_layer(storage, layer())
    now = time.time()
    os.utime(storage.layers.path(digest), (now - 2 * DAY, now - 2 * DAY))
    assert storage.layers.touch(digest)
    await storage.collect_layers(now)
    assert storage.layers.has(digest)
    assert not storage.layers.touch("c" * 64)


async def test_a_bundle_uploaded_while_its_layer_is_collected_finds_it_or_is_refused(storage: BundleStorage) -> None:
    for _ in range(20):
        digest = await add_layer(storage, layer())
        os.utime(storage.layers.path(digest), (0, 0))
        coming = add(storage, bundle(digest).gz())
        folder, _ = await asyncio.gather(coming, storage.collect_layers(DAY + 1.0), return_exceptions=True)
        if isinstance(folder, InvalidInput):
            assert "its layer of requirements is not stored here" in folder.message
        else:
            assert (folder / "deps" / "needed.py").exists()
            await storage.remove(folder.name)


async def test_removing_a_bundle_keeps_the_layer_that_others_share(storage: BundleStorage) -> None:
    digest = await add_layer(storage, layer())
    first, second = [await add(storage, bundle(digest, code).gz()) for code in (b"one", b"two")]
    await storage.remove(first.name)
    assert (second / "deps" / "needed.py").exists()


async def test_the_size_and_digest_of_a_layer_are_checked(storage: BundleStorage) -> None:
    with pytest.raises(InvalidInput, match="damaged in transit"):
        await storage.layers.receive(sent(layer()), LIMIT, "0" * 64)
    with pytest.raises(NotFound, match="no layer with digest"):
        storage.layers.path("0" * 64)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
async def test_each_layer_has_a_gid_of_its_own_outside_those_of_bundles(tmp_path: Path) -> None:
    storage = BundleStorage(tmp_path / "bundles", tmp_path / "uploads", own_gids=True)
    await storage.prepare()
    digests = [await add_layer(storage, layer(content)) for content in (b"one", b"two", b"three")]
    gids = [storage.layers.path(digest).stat().st_gid for digest in digests]
    assert gids == list(LAYER_GIDS[:3]) and not set(LAYER_GIDS[:3]) & set(BUNDLE_GIDS)
    for digest, gid in zip(digests, gids, strict=True):
        found = [p.stat() for p in storage.layers.path(digest).rglob("*")]
        assert {(s.st_uid, s.st_gid, s.st_mode & 0o7) for s in found} == {(0, gid, 0)}
    await storage.layers.remove(digests[0])
    again = await add_layer(storage, layer(b"four"))
    assert storage.layers.path(again).stat().st_gid == LAYER_GIDS[3]
    folder = await add(storage, bundle(again).gz())
    await storage.own(folder.name, 5)
    assert (folder / "deps" / "needed.py").stat().st_gid == LAYER_GIDS[3]


def test_the_gid_ranges_of_layers_and_bundles_do_not_overlap() -> None:
    assert BUNDLE_GIDS.stop <= LAYER_GIDS.start and LAYER_GIDS.stop < 2**31


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a folder another group")
async def test_after_the_last_gid_a_free_one_is_reused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rescoldo.bundle.layers.LAYER_GIDS", range(10, 12))
    storage = LayerStorage(tmp_path, tmp_path, own_gids=False)
    taken = {"a" * 64: 11}
    monkeypatch.setattr(storage, "digests", lambda: list(taken))
    (tmp_path / ("a" * 64)).mkdir()
    os.chown(tmp_path / ("a" * 64), 0, 11)
    assert storage._free_gid() == 10


async def test_a_bundle_that_contains_its_requirements_is_still_accepted(storage: BundleStorage) -> None:
    folder = await add(storage, Tar().file("function/handler.py").file("deps/needed.py", b"own").gz())
    assert (folder / "deps" / "needed.py").read_bytes() == b"own"
    await storage.collect_layers(time.time())
    assert (folder / "deps" / "needed.py").exists()
