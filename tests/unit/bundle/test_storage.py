"""BundleStorage: uploads that are complete, damaged, hostile or too large."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import io
import json
import os
import platform
import stat
import subprocess
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rescoldo.bundle import archives
from rescoldo.bundle import unpack as unpacking
from rescoldo.bundle.protocol import Received
from rescoldo.bundle.storage import BundleStorage
from rescoldo.bundle.unpack import unpack
from rescoldo.model.errors import InvalidInput, NotFound, StoreError, TooLarge
from rescoldo.model.ids import BUNDLE_GIDS, LAYER_GIDS
from support.archives import MANIFEST, Tar, layer_archive, sent

LIMIT = 2**20


@pytest.fixture
async def storage(tmp_path: Path) -> BundleStorage:
    made = BundleStorage(tmp_path / "bundles", tmp_path / "uploads", own_gids=False)
    await made.prepare()
    return made


async def add(storage: BundleStorage, data: bytes) -> Path:
    received = await storage.receive(sent(data), LIMIT, None)
    await storage.unpack(received)
    return storage.path(received.digest)


def left(tmp_path: Path) -> list[str]:
    return [p.name for folder in ("uploads", "bundles") for p in (tmp_path / folder).iterdir() if p.name != "layers"]


# -- valid uploads


async def test_an_upload_becomes_a_folder_named_by_its_digest(storage: BundleStorage, tmp_path: Path) -> None:
    data = Tar().file("function/handler.py", b"code").gz()
    digest = hashlib.sha256(data).hexdigest()
    received = await storage.receive(sent(data), LIMIT, digest)
    assert (received.digest, received.size, Path(received.place).read_bytes()) == (digest, len(data), data)
    await storage.unpack(received)
    folder = storage.path(digest)
    assert folder == tmp_path / "bundles" / digest
    assert (folder / "function" / "handler.py").read_bytes() == b"code"
    assert storage.has(digest) and storage.digests() == [digest]
    assert left(tmp_path) == [digest]


async def test_a_large_upload_in_many_chunks_arrives_unchanged(storage: BundleStorage) -> None:
    data = os.urandom(3_500_000)
    received = await storage.receive(sent(data, 70_001), 4_000_000, None)
    assert Path(received.place).read_bytes() == data
    assert received.digest == hashlib.sha256(data).hexdigest()
    await storage.discard(received)
    assert not Path(received.place).exists()


async def test_uploading_the_same_bundle_again_keeps_the_existing_folder(storage: BundleStorage) -> None:
    data = Tar().gz()
    first = (await add(storage, data)).stat().st_ino
    assert (await add(storage, data)).stat().st_ino == first


async def test_two_concurrent_uploads_of_the_same_bundle_both_succeed(storage: BundleStorage) -> None:
    data = Tar().file("a/b").gz()
    first, second = await asyncio.gather(add(storage, data), add(storage, data))
    assert first == second


async def test_without_gids_files_are_readable_by_their_owner_alone(storage: BundleStorage) -> None:
    folder = await add(storage, Tar().file("d/run", mode=0o4755).file("d/data", mode=0o2666).gz())
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in (folder, *folder.rglob("*"))}
    assert modes == {folder.name: 0o700, "d": 0o700, "run": 0o700, "data": 0o600, "manifest.json": 0o600}


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
async def test_as_root_a_bundle_is_readable_by_its_group_and_by_nobody_else(tmp_path: Path) -> None:
    storage = BundleStorage(tmp_path / "bundles", tmp_path / "uploads", own_gids=True)
    await storage.prepare()
    data = Tar().file("d/run", mode=0o6755).file("d/data", mode=0o666, uid=7, gid=7).link("l", "d").gz()
    folder = await add(storage, data)
    await storage.own(folder.name, 1)
    entries = {p.name: p.lstat() for p in (folder, *folder.rglob("*"))}
    assert {(e.st_uid, e.st_gid) for e in entries.values()} == {(0, BUNDLE_GIDS[1])}
    assert storage.group(folder.name) == BUNDLE_GIDS[1]
    modes = {name: stat.S_IMODE(e.st_mode) for name, e in entries.items() if name != "l"}
    assert modes == {folder.name: 0o750, "d": 0o750, "run": 0o750, "data": 0o640, "manifest.json": 0o640}
    assert stat.S_IMODE((tmp_path / "bundles").stat().st_mode) == 0o711


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
async def test_no_two_bundles_have_the_same_group_when_the_range_has_been_gone_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gids = range(BUNDLE_GIDS.start, BUNDLE_GIDS.start + 3)
    monkeypatch.setattr("rescoldo.bundle.storage.BUNDLE_GIDS", gids)
    storage = BundleStorage(tmp_path / "bundles", tmp_path / "uploads", own_gids=True)
    await storage.prepare()
    folders = [await add(storage, Tar().file(name).gz()) for name in "abcd"]
    for folder, number in zip(folders, (1, 4, 7), strict=False):
        await storage.own(folder.name, number)
    assert [storage.group(folder.name) for folder in folders[:3]] == [gids[1], gids[2], gids[0]]
    await storage.own(folders[0].name, 2)  # instances may run with the group that it has
    assert storage.group(folders[0].name) == gids[1]
    with pytest.raises(StoreError, match="all 3 groups"):
        await storage.own(folders[3].name, 8)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
async def test_bundles_and_layers_of_a_platform_with_other_groups_get_groups_of_ours(tmp_path: Path) -> None:
    storage = BundleStorage(tmp_path / "bundles", tmp_path / "uploads", own_gids=True)
    await storage.prepare()
    known, foreign, fresh = [await add(storage, Tar().file(name).gz()) for name in ("a", "b", "c")]
    await storage.own(known.name, 0)
    layer = tmp_path / "bundles" / "layers" / ("a" * 64)
    (layer / "deps").mkdir(parents=True)
    for path in (foreign, *foreign.rglob("*"), layer, *layer.rglob("*")):
        os.chown(path, 0, 30_000)
    await storage.prepare()
    stored = (known, foreign, fresh, layer)
    assert {path.name: {p.lstat().st_gid for p in (path, *path.rglob("*"))} for path in stored} == {
        known.name: {BUNDLE_GIDS[0]},
        foreign.name: {BUNDLE_GIDS[1]},
        fresh.name: {0},  # nobody has been given it yet
        layer.name: {LAYER_GIDS[0]},
    }


async def test_owning_an_unknown_bundle_says_so(storage: BundleStorage) -> None:
    with pytest.raises(NotFound, match="rescoldo up"):
        await storage.own("a" * 64, 1)


async def test_a_removed_bundle_is_gone_and_removing_it_again_is_no_error(
    storage: BundleStorage, tmp_path: Path
) -> None:
    folder = await add(storage, Tar().file("a/b").gz())
    await storage.remove(folder.name)
    await storage.remove(folder.name)
    assert storage.digests() == [] and left(tmp_path) == []


async def test_removals_at_once_are_no_error(storage: BundleStorage, tmp_path: Path) -> None:
    folder = await add(storage, Tar().file("a/b").gz())
    storage._remove(folder)
    storage._remove(folder)  # it was there when this one began
    assert storage.digests() == [] and left(tmp_path) == []


async def test_a_start_removes_leftovers_of_a_crash_and_nothing_else(tmp_path: Path) -> None:
    storage = BundleStorage(tmp_path / "bundles", tmp_path / "uploads", own_gids=False)
    await storage.prepare()
    folder = await add(storage, Tar().gz())
    (tmp_path / "bundles" / ".partial-x" / "deep").mkdir(parents=True)
    (tmp_path / "uploads" / ".partial-y").write_text("half")
    await storage.prepare()
    assert left(tmp_path) == [folder.name]


@pytest.mark.parametrize("digest", ["../uploads", "", "A" * 64, "a" * 63, "a" * 64 + "/..", "a" * 64 + "\n"])
async def test_a_digest_cannot_name_another_path(storage: BundleStorage, digest: str) -> None:
    assert not storage.has(digest)
    await storage.remove(digest)
    with pytest.raises(NotFound):
        storage.path(digest)
    with pytest.raises(InvalidInput, match="64 hex digits"):
        await storage.receive(sent(b"x"), LIMIT, digest)


# -- incomplete uploads


async def test_an_upload_over_the_limit_is_refused_and_removed(storage: BundleStorage, tmp_path: Path) -> None:
    with pytest.raises(TooLarge, match="100 bytes"):
        await storage.receive(sent(b"x" * 101), 100, None)
    assert left(tmp_path) == []


async def test_an_upload_with_another_digest_is_refused_and_removed(storage: BundleStorage, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="damaged in transit"):
        await storage.receive(sent(b"x"), LIMIT, "a" * 64)
    assert left(tmp_path) == []


async def test_an_empty_upload_is_refused(storage: BundleStorage, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="empty"):
        await storage.receive(sent(b""), LIMIT, None)
    assert left(tmp_path) == []


async def test_a_cancelled_upload_leaves_nothing(storage: BundleStorage, tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield b"x" * 2_000_000
        begun.set()
        await asyncio.Event().wait()

    upload = asyncio.ensure_future(storage.receive(endless(), 10_000_000, None))
    await begun.wait()
    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload
    assert left(tmp_path) == []


async def test_a_client_that_breaks_off_leaves_nothing(storage: BundleStorage, tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x"
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await storage.receive(broken(), LIMIT, None)
    assert left(tmp_path) == []


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
async def test_a_full_disk_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    mount = tmp_path / "disk"
    mount.mkdir()
    await asyncio.to_thread(subprocess.run, ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", mount], check=True)
    try:
        storage = BundleStorage(mount / "bundles", mount / "uploads", own_gids=False)
        await storage.prepare()
        with pytest.raises(StoreError, match="no space left for the upload"):
            await storage.receive(sent(os.urandom(500_000)), LIMIT, None)
        with pytest.raises(StoreError, match="no space left for the upload"):
            await add(storage, Tar().file("zeros", bytes(600_000)).gz())
        assert left(mount) == []
        await add(storage, Tar().gz())
    finally:
        await asyncio.to_thread(subprocess.run, ["umount", mount], check=True)


# -- damaged and hostile uploads


def nested_pax_headers() -> bytes:
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 0
    return gzip.compress(header.tobuf(tarfile.USTAR_FORMAT) * 20_000)


def huge_long_name() -> bytes:
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 2**30
    return gzip.compress(header.tobuf(tarfile.GNU_FORMAT) + bytes(1000))


def size_in_pax(size: str) -> bytes:
    return Tar().file("a", pax_headers={"size": size}).file("b").gz()


def damaged_tail() -> bytes:
    data = bytearray(Tar().gz())
    data[-8] ^= 1  # the checksum
    return bytes(data)


HOSTILE: dict[str, tuple[bytes, str]] = {
    "not gzip": (b"PK\3\4 a zip file, say", "not a whole gzip file"),
    "a plain tar": (Tar().plain(), "not a whole gzip file"),
    "gzip of something else": (gzip.compress(b"hello" * 1000), "not a bundle"),
    "gzip of nothing": (gzip.compress(b""), "not a bundle"),
    "cut short": (Tar().file("big", os.urandom(50_000)).gz()[:20_000], "not a whole gzip file"),
    "cut before its checksum": (Tar().gz()[:-8], "not a whole gzip file"),
    "wrong checksum": (damaged_tail(), "not a whole gzip file"),
    "tar cut inside a member": (gzip.compress(Tar().file("b", b"x" * 2000).plain()[:3500]), "ends inside"),
    "data behind the end": (gzip.compress(Tar().plain() + b"more"), "behind the archive's end"),
    "absolute": (Tar().file("/etc/passwd").gz(), "leads out"),
    "upwards": (Tar().file("../x").gz(), "leads out"),
    "upwards within": (Tar().file("a/../b").gz(), "leads out"),
    "upwards folder": (Tar().member("../d", tarfile.DIRTYPE).gz(), "leads out"),
    "link out": (Tar().link("l", "../x").gz(), "leads out"),
    "absolute link": (Tar().link("l", "/etc").gz(), "leads out"),
    "empty link": (Tar().link("l", "").gz(), "leads out"),
    "link out of a folder": (Tar().link("a/l", "../../x").gz(), "leads out"),
    "two links that lead out together": (
        Tar().file("a/b/c/f").link("a/b/c/up", "../../..").link("l", "a/b/c/up/..").gz(),
        "leads out",
    ),
    "a link that uses a later one": (
        Tar().link("l", "a/b/up/../..").link("a/b/up", "../..").gz(),
        "leads out",
    ),
    "a file through a link": (Tar().link("d", "e").file("e/x").file("d/x").gz(), "something else"),
    "a link in place of a folder": (Tar().file("d/x").link("d", "/").gz(), "twice"),
    "a link written through": (Tar().file("t").link("l", "t").file("l", b"evil").gz(), "twice"),
    "a folder in place of a file": (Tar().file("d").file("d/x").gz(), "something else"),
    "hard link out": (Tar().member("h", tarfile.LNKTYPE, linkname="../x").gz(), "leads out"),
    "hard link to an absolute path": (Tar().member("h", tarfile.LNKTYPE, linkname="/etc").gz(), "leads out"),
    "hard link to a later file": (Tar().member("h", tarfile.LNKTYPE, linkname="f").file("f").gz(), "no file"),
    "hard link to a link": (
        Tar().link("l", "manifest.json").member("h", tarfile.LNKTYPE, linkname="l").gz(),
        "no file",
    ),
    "a fifo": (Tar().member("p", tarfile.FIFOTYPE).gz(), "neither"),
    "a character device": (Tar().member("c", tarfile.CHRTYPE, devmajor=1, devminor=3).gz(), "neither"),
    "a block device": (Tar().member("b", tarfile.BLKTYPE).gz(), "neither"),
    "a sparse file": (
        Tar().file("s", pax_headers={"GNU.sparse.map": "0,1", "GNU.sparse.size": "99999"}).gz(),
        "neither",
    ),
    "a file twice": (Tar().file("x").file("x").gz(), "twice"),
    "a file twice, once with ./": (Tar().file("x").file("./x").gz(), "twice"),
    "the manifest twice": (Tar().file("manifest.json", MANIFEST).gz(), "twice"),
    "a file named like the root": (Tar().file(".").gz(), "twice"),
    "a long name": (Tar().file("/".join(["d" * 200] * 6)).gz(), "too long"),
    "a long component": (Tar().file("d" * 256).gz(), "too long"),
    "a deep path": (Tar().file("/".join("d" * 70)).gz(), "too deep"),
    "a negative size": (size_in_pax("-1000"), "not a bundle"),
    "a size that is no number": (size_in_pax("many"), "not a bundle"),
    "pax headers in pax headers": (nested_pax_headers(), "not a bundle"),
    "a name of a gigabyte": (huge_long_name(), "header of 1073741824 bytes"),
    "no manifest": (Tar(manifest=None).file("function/handler.py").gz(), "rescoldo build"),
    "an empty archive": (Tar(manifest=None).gz(), "rescoldo build"),
    "a manifest that is a folder": (Tar(None).member("manifest.json", tarfile.DIRTYPE).gz(), "no manifest"),
    "a manifest that is a link": (Tar(None).file("m", MANIFEST).link("manifest.json", "m").gz(), "be a file"),
    "a huge manifest": (Tar(b" " * 70_000).gz(), "at most"),
    "a manifest that is no JSON": (Tar(b"{").gz(), "not JSON"),
    "a manifest that is no text": (Tar(b"\xff\xfe\0").gz(), "not JSON"),
    "a manifest nested a thousand times": (Tar(b"[" * 60_000).gz(), "not JSON"),
    "a manifest that is a list": (Tar(b"[]").gz(), "an object"),
    "a manifest of nothing": (Tar(b"{}").gz(), "kind None, schema None"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_bad_upload_is_refused_and_leaves_nothing(storage: BundleStorage, tmp_path: Path, name: str) -> None:
    data, message = HOSTILE[name]
    with pytest.raises(InvalidInput, match=message):
        await add(storage, data)
    assert left(tmp_path) == []


async def test_links_that_stay_inside_the_bundle_are_kept(storage: BundleStorage) -> None:
    tar = Tar().file("d/f", b"data").link("d/l", "../d/f").link("top", "d").link("dangling", "nowhere")
    folder = await add(storage, tar.member("d/h", tarfile.LNKTYPE, linkname="d/f").gz())
    assert (folder / "top" / "l").read_bytes() == (folder / "d" / "h").read_bytes() == b"data"
    assert str((folder / "dangling").readlink()) == "nowhere"


async def test_a_folder_may_be_listed_twice_and_names_may_be_unusual(storage: BundleStorage) -> None:
    odd = "ü \n\\ ' name"
    tar = Tar().member("./", tarfile.DIRTYPE).member("d", tarfile.DIRTYPE).file(f"d/{odd}")
    folder = await add(storage, tar.member("d/", tarfile.DIRTYPE).gz())
    assert [p.name for p in (folder / "d").iterdir()] == [odd]


# -- bounds


async def test_unpacking_a_bomb_stops_at_the_bound_and_not_after_it(tmp_path: Path) -> None:
    data = Tar().file("zeros", bytes(5_000_000)).gz()
    with pytest.raises(TooLarge, match="unpacks to more than 1000000 bytes"):
        unpack(io.BytesIO(data), tmp_path, max_unpacked=1_000_000)
    assert not (tmp_path / "zeros").exists()


async def test_many_files_add_up_to_the_bound(tmp_path: Path) -> None:
    tar = Tar()
    for n in range(20):
        tar.file(f"f{n}", bytes(100_000))
    with pytest.raises(TooLarge):
        unpack(io.BytesIO(tar.gz()), tmp_path, max_unpacked=1_000_000)
    assert sum(p.stat().st_size for p in tmp_path.iterdir()) <= 1_000_000


async def test_unpacking_stops_at_a_bomb_between_the_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "MAX_MEMBERS", 10)
    data = gzip.compress(Tar().plain() + bytes(3_000_000))  # zeros after the end
    with pytest.raises(TooLarge):
        unpack(io.BytesIO(data), tmp_path, max_unpacked=1_000_000)


async def test_too_many_members_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "MAX_MEMBERS", 10)
    tar = Tar()
    for _ in range(10):
        tar.member("d", tarfile.DIRTYPE)
    with pytest.raises(TooLarge, match="more than 10 members"):
        unpack(io.BytesIO(tar.gz()), tmp_path)


# -- the manifest and this machine


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"python": "2.7"}, ["Python 2.7 on", "this machine has Python", "run `rescoldo build` again here"]),
        ({"arch": "vax"}, ["on vax", f"on {platform.machine()}", "run `rescoldo build` again here"]),
        ({"python": None}, ["Python None", "rescoldo build"]),
        ({"schema": 3}, ["schema 3", "schemas 1 and 2"]),
        ({"kind": "wasm"}, ["'wasm'", "'python'"]),
        ({"handler": 5}, ["handler"]),
    ],
)
async def test_an_incompatible_bundle_is_refused_naming_both_sides(
    storage: BundleStorage, change: dict[str, object], words: list[str]
) -> None:
    with pytest.raises(InvalidInput) as caught:
        await add(storage, Tar(json.dumps(json.loads(MANIFEST) | change).encode()).gz())
    for word in words:
        assert word in caught.value.message


# -- arbitrary bytes


def check_refused_or_contained(data: bytes, folder: Path) -> None:
    with contextlib.suppress(InvalidInput, TooLarge):
        unpack(io.BytesIO(data), folder, max_unpacked=10_000)
    real = os.path.realpath(folder)
    for path in folder.rglob("*"):
        if not path.is_symlink():
            assert os.path.realpath(path).startswith(real)


@given(st.binary(max_size=3000))
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_any_bytes_in_gzip_are_refused_or_unpacked(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    check_refused_or_contained(gzip.compress(data, 0), tmp_path_factory.mktemp("any"))


@pytest.mark.slow
@given(st.lists(st.tuples(st.integers(0, 4095), st.integers(0, 255)), min_size=1, max_size=6))
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_a_bundle_with_flipped_bytes_is_refused_or_unpacked(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]]
) -> None:
    tar = Tar().file("a", b"x" * 600, pax_headers={"path": "long/" * 30 + "name"}).link("l", "a")
    data = bytearray(tar.plain())
    for position, byte in changes:
        data[position] = byte
    # tarfile skips a header with a wrong checksum: repair it, so that the checks behind it run
    for start in range(0, len(data) - 511, 512):
        block = data[start : start + 512]
        total = 256 + sum(block[:148]) + sum(block[156:])
        if block[257:262] == b"ustar":
            data[start + 148 : start + 156] = b"%06o\0 " % total
    check_refused_or_contained(gzip.compress(bytes(data), 0), tmp_path_factory.mktemp("flip"))


names = st.lists(st.sampled_from(["a", "b", "..", ".", ""]), min_size=1, max_size=4).map("/".join)
kinds = st.sampled_from([tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE])


@pytest.mark.slow
@given(st.lists(st.tuples(names, kinds, names), max_size=8))
@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_no_mixture_of_files_folders_and_links_writes_outside(
    tmp_path_factory: pytest.TempPathFactory, members: list[tuple[str, bytes, str]]
) -> None:
    outer = tmp_path_factory.mktemp("outer")
    folder = outer / "inner"
    folder.mkdir()
    tar = Tar()
    for name, kind, to in members:
        tar.member(name, kind, b"x" if kind == tarfile.REGTYPE else b"", linkname=to)
    accepted = True
    try:
        unpack(io.BytesIO(tar.gz()), folder)
    except InvalidInput:
        accepted = False
    assert [p.name for p in outer.iterdir()] == ["inner"]
    for path in folder.rglob("*"):
        assert not accepted or os.path.realpath(path).startswith(str(folder))


async def test_discarding_twice_is_no_error(storage: BundleStorage, tmp_path: Path) -> None:
    received = Received("a" * 64, 1, str(tmp_path / "uploads" / "gone"))
    await storage.discard(received)


# -- a cache


async def cache(tmp_path: Path) -> BundleStorage:
    """A storage that is not durable, as another process of this boot has it."""
    made = BundleStorage(tmp_path / "bundles", tmp_path / "uploads", own_gids=False, durable=False)
    await made.prepare()
    return made


async def layer_of(storage: BundleStorage) -> str:
    """Store a layer; return its digest."""
    data = layer_archive()
    await storage.layers.unpack(await storage.layers.receive(sent(data), LIMIT, None))
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("mark", [None, "", "damag\0", "1b4e28ba-2fa1-11d2-883f-0016d3cca427\n"])
async def test_a_cache_of_another_boot_is_emptied_at_the_start(tmp_path: Path, mark: str | None) -> None:
    storage = await cache(tmp_path)
    folder, layer = await add(storage, Tar().gz()), await layer_of(storage)
    inode = folder.parent.stat().st_ino
    place = folder.parent / ".boot"
    place.unlink() if mark is None else place.write_text(mark)
    again = await cache(tmp_path)
    assert again.digests() == []
    assert not again.layers.has(layer)
    assert folder.parent.stat().st_ino == inode
    assert (await add(again, Tar().gz())).is_dir()


async def test_a_cache_stays_for_as_long_as_the_machine_runs(tmp_path: Path) -> None:
    storage = await cache(tmp_path)
    folder, layer = await add(storage, Tar().gz()), await layer_of(storage)
    again = await cache(tmp_path)
    assert again.digests() == [folder.name]
    assert again.layers.has(layer)


async def test_only_a_cache_does_without_syncs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    for name in ("_sync_file_system", "sync_folder"):
        monkeypatch.setattr(archives, name, synced.append)
    storage = await cache(tmp_path / "cache")
    await add(storage, Tar().gz())
    await layer_of(storage)
    assert not synced
    durable = BundleStorage(tmp_path / "bundles", tmp_path / "uploads", own_gids=False)
    await durable.prepare()
    await add(durable, Tar().gz())
    assert len(synced) == 2
