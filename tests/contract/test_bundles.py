"""What every implementation of `Bundles` promises."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rescoldo.bundle.archive import write_archive
from rescoldo.bundle.kept import KeptBundles
from rescoldo.bundle.manifest import layer_manifest, manifest_here
from rescoldo.bundle.memory import MemoryBundles
from rescoldo.bundle.protocol import Archives, Bundles, Received
from rescoldo.bundle.storage import BundleStorage
from rescoldo.model.errors import InvalidInput, NotFound, TooLarge
from support.archives import sent

LIMIT = 2**20
DAY = 86400.0
UNKNOWN = "0" * 64


@pytest.fixture(params=["memory", "disk", "archives"])
async def bundles(request: pytest.FixtureRequest, tmp_path: Path) -> Bundles:
    if request.param == "memory":
        return MemoryBundles()
    if request.param == "archives":
        kept = KeptBundles(tmp_path / "bundles", tmp_path / "uploads")
        await kept.prepare()
        return kept
    storage = BundleStorage(tmp_path / "bundles", tmp_path / "uploads", own_gids=os.geteuid() == 0)
    await storage.prepare()
    return storage


class Packer:
    """Makes archives: other bytes for each `content`."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "archive.tar.gz"

    def bundle(self, content: bytes = b"code", *, style: str = "http", layer: str = "") -> bytes:
        return self.pack(manifest_here("python3-http", style, layer).to_text(), {"function/handler.py": content})

    def layer(self, content: bytes = b"X = 1\n") -> bytes:
        return self.pack(layer_manifest(), {"deps/needed.py": content})

    def pack(self, manifest: str, files: dict[str, bytes]) -> bytes:
        write_archive(self._path, [], {"manifest.json": manifest.encode(), **files})
        return self._path.read_bytes()


@pytest.fixture
def packer(tmp_path: Path) -> Packer:
    return Packer(tmp_path)


async def add(archives: Archives, data: bytes) -> str:
    received = await archives.receive(sent(data), LIMIT, None)
    await archives.unpack(received)
    return received.digest


# -- receiving


async def test_receive_returns_digest_and_size_and_only_unpacking_stores_the_bundle(
    bundles: Bundles, packer: Packer
) -> None:
    data = packer.bundle()
    digest = hashlib.sha256(data).hexdigest()
    received = await bundles.receive(sent(data), len(data), digest)
    assert received == Received(digest, len(data), received.place)
    assert not bundles.has(digest)
    await bundles.unpack(received)
    assert bundles.has(digest)
    assert bundles.digests() == [digest]


async def test_two_uploads_of_one_bundle_stay_apart_until_they_are_unpacked(bundles: Bundles, packer: Packer) -> None:
    first, second = [await bundles.receive(sent(packer.bundle()), LIMIT, None) for _ in range(2)]
    assert first.place != second.place
    await asyncio.gather(bundles.unpack(first), bundles.unpack(second))
    assert bundles.digests() == [first.digest]


async def test_an_upload_above_the_limit_is_refused(bundles: Bundles) -> None:
    with pytest.raises(TooLarge, match="100 bytes"):
        await bundles.receive(sent(b"x" * 101), 100, None)


async def test_an_empty_upload_is_refused(bundles: Bundles) -> None:
    with pytest.raises(InvalidInput, match="empty"):
        await bundles.receive(sent(b""), LIMIT, None)


@pytest.mark.parametrize(
    ("digest", "words"), [("a" * 64, "digest 2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"),
                          ("a" * 63, "64 hex digits"), ("../x", "64 hex digits")],
)  # fmt: skip
async def test_an_upload_with_another_digest_is_refused(bundles: Bundles, digest: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        await bundles.receive(sent(b"x"), LIMIT, digest)


async def test_an_upload_that_breaks_off_raises_the_senders_error(bundles: Bundles) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x"
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await bundles.receive(broken(), LIMIT, None)
    assert bundles.digests() == []


# -- unpacking


@pytest.mark.parametrize("what", ["no archive", "no manifest", "a layer", "another kind", "another machine"])
async def test_an_upload_that_is_no_bundle_for_here_is_refused(bundles: Bundles, packer: Packer, what: str) -> None:
    manifest = manifest_here("python3-http", "http").to_text()
    data = {
        "no archive": lambda: b"PK\3\4",
        "no manifest": lambda: packer.pack("", {}),
        "a layer": packer.layer,
        "another kind": lambda: packer.pack(manifest.replace('"python",', '"basic",'), {}),
        "another machine": lambda: packer.pack(json.dumps(json.loads(manifest) | {"arch": "z80"}), {}),
    }[what]()
    with pytest.raises(InvalidInput):
        await add(bundles, data)
    assert bundles.digests() == []


async def test_a_refused_upload_can_be_sent_again(bundles: Bundles, packer: Packer) -> None:
    needed = packer.layer()
    data = packer.bundle(layer=hashlib.sha256(needed).hexdigest())
    with pytest.raises(InvalidInput, match="its layer of requirements is not stored here"):
        await add(bundles, data)
    await add(bundles.layers, needed)
    assert bundles.has(await add(bundles, data))


# -- stored bundles


async def test_kind_returns_the_kind_of_a_bundles_function(bundles: Bundles, packer: Packer) -> None:
    handler, program = [await add(bundles, packer.bundle(style=style)) for style in ("http", "process")]
    assert (bundles.kind(handler), bundles.kind(program)) == ("python", "process")


async def test_digests_are_sorted_and_leave_out_a_removed_bundle(bundles: Bundles, packer: Packer) -> None:
    digests = [await add(bundles, packer.bundle(content)) for content in (b"one", b"two", b"three")]
    assert bundles.digests() == sorted(digests)
    await bundles.remove(digests[0])
    await bundles.remove(digests[0])
    assert bundles.digests() == sorted(digests[1:])
    assert not bundles.has(digests[0])


@pytest.mark.parametrize("digest", [UNKNOWN, "", "..", "layers", "../uploads", "A" * 64])
async def test_the_error_for_an_unknown_bundle_names_the_remedy(bundles: Bundles, packer: Packer, digest: str) -> None:
    await add(bundles, packer.bundle())
    assert not bundles.has(digest)
    await bundles.remove(digest)
    for ask in (bundles.check, bundles.kind):
        with pytest.raises(NotFound, match="rescoldo up"):
            ask(digest)
    with pytest.raises(NotFound, match="rescoldo up"):
        await bundles.own(digest, 1)
    assert len(bundles.digests()) == 1


async def test_a_bundle_may_get_its_group_again_after_a_crash(bundles: Bundles, packer: Packer) -> None:
    digest = await add(bundles, packer.bundle())
    bundles.check(digest)
    for number in (1, 1, 2_000_000):
        await bundles.own(digest, number)


# -- layers


async def test_a_layer_stays_for_a_day_and_while_a_bundle_names_it(bundles: Bundles, packer: Packer) -> None:
    named, unused = [await add(bundles.layers, packer.layer(content)) for content in (b"named", b"unused")]
    bundle = await add(bundles, packer.bundle(layer=named))
    await bundles.collect_layers(time.time() + DAY / 2)
    assert [bundles.layers.touch(digest) for digest in (named, unused)] == [True, True]
    await bundles.collect_layers(time.time() + 2 * DAY)
    assert [bundles.layers.touch(digest) for digest in (named, unused, UNKNOWN)] == [True, False, False]
    await bundles.remove(bundle)
    await bundles.collect_layers(time.time() + 2 * DAY)
    assert not bundles.layers.touch(named)


async def test_a_layer_may_be_sent_again_and_is_no_bundle(bundles: Bundles, packer: Packer) -> None:
    first, again = [await add(bundles.layers, packer.layer()) for _ in range(2)]
    assert first == again and bundles.layers.touch(first)
    assert bundles.digests() == [] and not bundles.has(first)


@pytest.mark.parametrize("manifest", ["{}", manifest_here("python3-http", "http").to_text()])
async def test_a_file_that_is_no_layer_is_refused(bundles: Bundles, packer: Packer, manifest: str) -> None:
    with pytest.raises(InvalidInput, match="not a layer of requirements"):
        await add(bundles.layers, packer.pack(manifest, {"deps/needed.py": b""}))
