"""What every `Bundles` and every `Secrets` of a node does: a node gets there what it runs.

The real ones read the disk that the node shares with the controller. The second ones stand for a node of its own: it
fetches bundles into a cache, and has secrets in memory alone.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from rescoldo.model.errors import StartFailed
from rescoldo.model.ids import BUNDLE_GIDS
from rescoldo.node.disk import BundlesOnDisk, SecretsOnDisk
from rescoldo.node.protocol import BundleHere, Bundles, Secrets

A, B = "a" * 64, "b" * 64
GIDS = {A: BUNDLE_GIDS[3], B: BUNDLE_GIDS[5]}
ROOT = os.geteuid() == 0


class FetchedBundles:
    """`Bundles` in a cache of the node's own: `fetch` writes a bundle that is not there yet into a folder. The node
    picks the groups."""

    def __init__(self, cache: Path, fetch: Callable[[str, Path], Awaitable[None]]) -> None:
        self._cache = cache
        self._fetch = fetch
        self._found: dict[str, asyncio.Task[BundleHere]] = {}

    async def find(self, digest: str) -> BundleHere:
        if digest not in self._found:
            self._found[digest] = asyncio.create_task(self._place(digest, BUNDLE_GIDS[len(self._found)]))
        try:
            return await asyncio.shield(self._found[digest])
        except OSError as error:
            del self._found[digest]
            raise StartFailed(f"its bundle {digest} cannot be fetched: {error}; deploy it again") from error

    async def _place(self, digest: str, gid: int) -> BundleHere:
        path = self._cache / digest
        await self._fetch(digest, path)
        if ROOT:
            os.chown(path, 0, gid)
        return BundleHere(path, gid if ROOT else 0)


class SecretsInMemory:
    """`Secrets` in memory, on no disk of the node."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, str], bytes] = {}

    async def open(self, namespace: str, name: str) -> int:
        if (namespace, name) not in self.values:
            raise StartFailed(f"its secret {name!r} is not here; create it again with `rescoldo secret create {name}`")
        descriptor = os.memfd_create("secret", os.MFD_CLOEXEC)
        os.pwrite(descriptor, self.values[namespace, name], 0)
        return descriptor


@dataclass(frozen=True)
class Bundled:
    bundles: Bundles
    origin: Path  # the controller's folder with the bundles A and B


@pytest.fixture(params=["disk", "fetched"])
def bundled(request: pytest.FixtureRequest, tmp_path: Path) -> Bundled:
    origin, cache = tmp_path / "bundles", tmp_path / "cache"
    for digest, gid in GIDS.items():
        (origin / digest).mkdir(parents=True)
        (origin / digest / "manifest.json").write_text(digest)
        if ROOT:
            os.chown(origin / digest, 0, gid)
    if request.param == "disk":
        return Bundled(BundlesOnDisk(origin, own_gids=ROOT), origin)

    async def fetch(digest: str, path: Path) -> None:
        await asyncio.sleep(0)
        shutil.copytree(origin / digest, path)

    return Bundled(FetchedBundles(cache, fetch), origin)


async def test_a_bundle_is_found_with_the_group_that_may_read_it(bundled: Bundled) -> None:
    found = {digest: await bundled.bundles.find(digest) for digest in (A, B)}
    for digest, here in found.items():
        assert (here.path / "manifest.json").read_text() == digest
        assert here.gid == (here.path.stat().st_gid if ROOT else 0)
    if ROOT:
        assert found[A].gid != found[B].gid
        assert {found[A].gid, found[B].gid} < set(BUNDLE_GIDS)


async def test_concurrent_starts_find_the_same_bundle(bundled: Bundled) -> None:
    found = await asyncio.gather(*(bundled.bundles.find(A) for _ in range(10)))
    assert set(found) == {await bundled.bundles.find(A)}


async def test_a_missing_bundle_fails_the_start_with_its_digest_and_the_remedy(bundled: Bundled) -> None:
    shutil.rmtree(bundled.origin / B)
    with pytest.raises(StartFailed, match=rf"its bundle {B} .*deploy it again"):
        await bundled.bundles.find(B)


async def test_a_bundle_that_comes_back_is_found(bundled: Bundled) -> None:
    (bundled.origin / B).rename(bundled.origin / "aside")
    with pytest.raises(StartFailed):
        await bundled.bundles.find(B)
    (bundled.origin / "aside").rename(bundled.origin / B)
    assert (await bundled.bundles.find(B)).path.is_dir()


@dataclass(frozen=True)
class Secreted:
    secrets: Secrets
    save: Callable[[str, str, bytes], None]


@pytest.fixture(params=["disk", "memory"])
def secreted(request: pytest.FixtureRequest, tmp_path: Path) -> Secreted:
    if request.param == "memory":
        memory = SecretsInMemory()
        return Secreted(memory, lambda namespace, name, value: memory.values.update({(namespace, name): value}))

    def save(namespace: str, name: str, value: bytes) -> None:
        (tmp_path / namespace).mkdir(exist_ok=True)
        (tmp_path / namespace / name).write_bytes(value)

    return Secreted(SecretsOnDisk(tmp_path), save)


def read(descriptor: int) -> bytes:
    """Read from the descriptor's position to the end and close it; check that no child would have inherited it."""
    assert fcntl.fcntl(descriptor, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


async def test_each_open_reads_a_secret_from_its_start(secreted: Secreted) -> None:
    secreted.save("blue", "key", b"s3cret\0\n")
    one, other = await secreted.secrets.open("blue", "key"), await secreted.secrets.open("blue", "key")
    assert read(one) == read(other) == b"s3cret\0\n"


async def test_open_returns_the_current_value_of_the_secret_in_its_namespace(secreted: Secreted) -> None:
    secreted.save("blue", "key", b"one")
    secreted.save("green", "key", b"two")
    assert read(await secreted.secrets.open("green", "key")) == b"two"
    secreted.save("blue", "key", b"three")
    assert read(await secreted.secrets.open("blue", "key")) == b"three"


async def test_a_missing_secret_fails_the_start_with_its_name_and_the_remedy(secreted: Secreted) -> None:
    secreted.save("blue", "key", b"one")
    with pytest.raises(StartFailed, match=r"its secret 'token' .*`rescoldo secret create token`"):
        await secreted.secrets.open("blue", "token")
    with pytest.raises(StartFailed):
        await secreted.secrets.open("green", "key")
