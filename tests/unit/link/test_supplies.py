"""Bundles and secrets come from control once, and are here before a function is."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from rescoldo.bundle.memory import MemoryBundles
from rescoldo.link.fake import MemoryControl
from rescoldo.link.protocol import Archive, Delivery
from rescoldo.link.secrets import JoinedSecrets
from rescoldo.link.supplies import Supplies
from rescoldo.model.deployed import Deployed
from rescoldo.model.errors import InvalidInput, StartFailed, TooLarge
from rescoldo.model.function import Function, FunctionSpec
from rescoldo.model.revision import Revision
from rescoldo.store.memory import MemorySecrets
from support.archives import bundle_archive, layer_archive

SPEC = FunctionSpec("fn", "some:image", secrets=("word",))


class Counting(MemoryControl):
    """Counts the archives that are asked for, and is slow."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = Counter[Archive]()

    async def archive(self, kind: Archive, digest: str) -> AsyncIterator[bytes]:
        self.sent[kind] += 1
        await asyncio.sleep(0.01)
        async for chunk in super().archive(kind, digest):
            yield chunk


class World:
    def __init__(self) -> None:
        self.control, self.bundles, self.secrets = Counting(), MemoryBundles(), MemorySecrets()
        self.supplies = Supplies(self.control, self.bundles, JoinedSecrets(self.control, self.secrets), 2**20)

    def put(self, kind: Archive, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        self.control.archives[kind, digest] = data
        return digest


@pytest.fixture
def world() -> World:
    return World()


def function(digest: str, **traffic: int) -> Function:
    return Function(SPEC, digest, 1.0, revision=2, traffic={int(n.strip("r")): p for n, p in traffic.items()})


async def test_a_bundle_its_layer_and_secrets_come_once(world: World) -> None:
    layer = world.put("layers", layer_archive())
    bundle = world.put("bundles", bundle_archive(layer=layer))
    delivery = Delivery(Deployed(function(bundle)), {bundle: layer}, {"word": b"sesame"})
    await asyncio.gather(*(world.supplies.bring(delivery) for _ in range(5)))
    assert world.bundles.has(bundle)
    assert world.control.sent == {"bundles": 1, "layers": 1}
    assert world.secrets.values == {("openfaas-fn", "word"): b"sesame"}


async def test_a_changed_secret_is_written_again_and_an_equal_one_is_not(world: World) -> None:
    bundle = world.put("bundles", bundle_archive())
    delivery = Delivery(Deployed(function(bundle)), {}, {"word": b"sesame"})
    await world.supplies.bring(delivery)
    world.secrets.values.clear()
    await world.supplies.bring(delivery)
    assert world.secrets.values == {}
    await world.supplies.bring(replace(delivery, secrets={"word": b"other"}))
    assert world.secrets.values == {("openfaas-fn", "word"): b"other"}


async def test_revisions_with_a_share_come_too_and_others_do_not(world: World) -> None:
    now, share, past = (world.put("bundles", bundle_archive(code=f"# {n}")) for n in range(3))
    revisions = (Revision(1, SPEC, share, 1.0), Revision(0, SPEC, past, 1.0))
    await world.supplies.bring(Delivery(Deployed(function(now, r2=50, r1=50), revisions)))
    assert set(world.bundles.digests()) == {now, share}


async def test_what_control_has_not_is_a_failed_start_that_names_the_remedy(world: World) -> None:
    with pytest.raises(StartFailed, match="rescoldo up"):
        await world.supplies.bring(Delivery(Deployed(function("a" * 64))))


async def test_an_archive_that_is_not_what_its_name_says_is_refused(world: World) -> None:
    world.control.archives["bundles", "a" * 64] = bundle_archive()
    with pytest.raises(InvalidInput, match="expected a"):
        await world.supplies.bring(Delivery(Deployed(function("a" * 64))))
    assert world.bundles.digests() == []


async def test_an_archive_has_a_bound(world: World) -> None:
    world.control.archives["bundles", "a" * 64] = bytes(2**20 + 1)
    with pytest.raises(TooLarge):
        await world.supplies.bring(Delivery(Deployed(function("a" * 64))))
