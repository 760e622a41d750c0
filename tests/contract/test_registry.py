"""What a registry does: the one in memory, and a real one behind our client."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rescoldo.image.blobs import CONFIG, GZIP_LAYER, MANIFEST, Blob, encoded
from rescoldo.image.memory import MemoryRegistry
from rescoldo.image.protocol import NotInRegistry, Registry, RegistryRefused
from rescoldo.image.reference import parse
from rescoldo.image.registry import HttpRegistry
from support import registry as real

pytestmark = pytest.mark.timeout(600)  # the first test may have to compile the registry

HERE, THERE = "me/rescoldo", "somebody/else"
LAYER = Blob.of(bytes(range(256)) * 10_000, GZIP_LAYER)
CONFIGURATION = Blob.of(b'{"architecture":"amd64","os":"linux"}', CONFIG)


def manifest(*layers: Blob) -> Blob:
    config, described = CONFIGURATION.described(), [layer.described() for layer in layers]
    return Blob.of(
        encoded({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": described}), MANIFEST
    )


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with real.registry(tmp_path_factory.mktemp("registry")) as found:
        yield found


@pytest.fixture(params=["memory", pytest.param("real", marks=pytest.mark.slow)])
def registry(request: pytest.FixtureRequest) -> Iterator[Registry]:
    if request.param == "memory":
        yield MemoryRegistry()
        return
    address = request.getfixturevalue("address")
    with HttpRegistry(parse(f"{address}/{HERE}", "--push"), None, plain_http=True) as made:
        yield made


@pytest.fixture
def place(request: pytest.FixtureRequest) -> str:
    """A repository of the test's own: the real registry serves all tests."""
    return f"me/{request.node.originalname}"


def put(registry: Registry, place: str, *blobs: Blob) -> list[int]:
    sent: list[int] = []
    for blob in blobs:
        registry.put(place, blob, sent.append)
    return sent


def test_a_blob_is_there_once_it_was_put(registry: Registry, place: str) -> None:
    assert not registry.has(place, LAYER.digest)
    assert sum(put(registry, place, LAYER)) == LAYER.size
    assert registry.has(place, LAYER.digest)
    with registry.read(place, LAYER.digest) as pieces:
        assert b"".join(pieces) == LAYER.content


def test_a_blob_of_a_file_is_sent_as_it_is(registry: Registry, place: str, tmp_path: Path) -> None:
    (tmp_path / "layer").write_bytes(LAYER.content)  # type: ignore[arg-type]
    put(registry, place, Blob(tmp_path / "layer", LAYER.digest, LAYER.size, GZIP_LAYER))
    with registry.read(place, LAYER.digest) as pieces:
        assert b"".join(pieces) == LAYER.content


def test_putting_a_blob_again_changes_nothing(registry: Registry, place: str) -> None:
    put(registry, place, LAYER, LAYER)
    assert registry.has(place, LAYER.digest)


def test_a_blob_that_is_not_its_digest_is_refused(registry: Registry, place: str) -> None:
    wrong = Blob(b"other", LAYER.digest, 5, GZIP_LAYER)
    with pytest.raises(RegistryRefused):
        put(registry, place, wrong)
    assert not registry.has(place, LAYER.digest)


def test_a_blob_that_nobody_put_is_not_there(registry: Registry, place: str) -> None:
    with pytest.raises(NotInRegistry), registry.read(place, LAYER.digest):
        pass


def test_a_manifest_is_found_by_its_tag_and_its_digest(registry: Registry, place: str) -> None:
    put(registry, place, LAYER, CONFIGURATION)
    made = manifest(LAYER)
    registry.put_manifest(place, "1", made)
    for version in ("1", made.digest):
        assert registry.manifest(place, version) == made


def test_a_tag_moves(registry: Registry, place: str) -> None:
    put(registry, place, LAYER, CONFIGURATION)
    for made in (manifest(LAYER), manifest()):
        registry.put_manifest(place, "1", made)
        assert registry.manifest(place, "1") == made
    assert registry.manifest(place, manifest(LAYER).digest) == manifest(LAYER)


def test_a_manifest_whose_layer_is_missing_is_refused(registry: Registry, place: str) -> None:
    put(registry, place, CONFIGURATION)
    with pytest.raises(RegistryRefused):
        registry.put_manifest(place, "1", manifest(LAYER))


def test_a_manifest_that_nobody_put_is_not_there(registry: Registry, place: str) -> None:
    with pytest.raises(NotInRegistry):
        registry.manifest(place, "1")


def test_a_blob_is_mounted_from_where_it_is(registry: Registry, place: str) -> None:
    put(registry, THERE, LAYER)
    assert registry.mount(place, LAYER.digest, THERE)
    assert registry.has(place, LAYER.digest)


def test_a_blob_that_is_nowhere_cannot_be_mounted(registry: Registry, place: str) -> None:
    assert not registry.mount(place, CONFIGURATION.digest, "somebody/none")
    assert not registry.has(place, CONFIGURATION.digest)
