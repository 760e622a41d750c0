"""Images moved to and from a registry."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rescoldo.image.assembly import put_together
from rescoldo.image.bases import Base
from rescoldo.image.blobs import CONFIG, MANIFEST, Blob, Image, encoded
from rescoldo.image.cache import LayerCache
from rescoldo.image.layers import Entry, write_layer
from rescoldo.image.memory import MemoryRegistry
from rescoldo.image.protocol import RegistryFailed
from rescoldo.image.reference import parse
from rescoldo.image.transfer import pull_base, push
from rescoldo.model.errors import InvalidInput

NAME = parse("ghcr.io/me/rescoldo:1", "--push")


@contextmanager
def no_bar(_text: str, _size: int) -> Iterator[Any]:
    yield lambda sent: None


@pytest.fixture
def image(tmp_path: Path) -> Image:
    layers = [write_layer([Entry(name, b"a")], tmp_path / name) for name in ("below", "above")]
    return put_together(Base("a", "", (layers[0],), {"Env": ["A=1"]}, ({"created_by": "x"},)), layers[1], "amd64")


@pytest.fixture
def registry(image: Image) -> MemoryRegistry:
    made = MemoryRegistry()
    push(made, image, NAME, no_bar)
    return made


def rewritten(registry: MemoryRegistry, image: Image, change: Any) -> None:
    """Have the registry serve another manifest under the tag."""
    described = json.loads(image.manifest.content)
    change(described)
    registry._manifests[NAME.repository]["1"] = Blob.of(encoded(described), described["mediaType"])


def pull(registry: MemoryRegistry, folder: Path, name: str = str(NAME)) -> Base:
    return pull_base(registry, parse(name, "--base"), "amd64", LayerCache(folder / "cache"), no_bar)


def test_what_was_pushed_is_pulled(registry: MemoryRegistry, image: Image, tmp_path: Path) -> None:
    base = pull(registry, tmp_path)
    assert [(one.blob.digest, one.diff_id) for one in base.layers] == [
        (one.blob.digest, one.diff_id) for one in image.layers
    ]
    assert [b"".join(one.blob.read()) for one in base.layers] == [b"".join(one.blob.read()) for one in image.layers]
    assert (base.config["Env"], len(base.history), base.digest) == (["A=1"], 2, image.manifest.digest)


def test_only_what_is_missing_is_sent(registry: MemoryRegistry, image: Image) -> None:
    assert registry.stored == 3
    push(registry, image, NAME, no_bar)
    push(registry, image, parse("ghcr.io/me/other:1", "--push"), no_bar, origin=NAME.repository)
    assert registry.stored == 3
    push(registry, image, parse("ghcr.io/me/third:1", "--push"), no_bar)
    assert registry.stored == 6


def test_by_its_digest(registry: MemoryRegistry, image: Image, tmp_path: Path) -> None:
    assert pull(registry, tmp_path, f"ghcr.io/me/rescoldo@{image.manifest.digest}").digest == image.manifest.digest


def test_a_manifest_that_is_not_that_of_its_digest(registry: MemoryRegistry, image: Image, tmp_path: Path) -> None:
    digest = f"sha256:{'0' * 64}"
    registry._manifests[NAME.repository][digest] = image.manifest
    with pytest.raises(RegistryFailed, match="is not that of sha256:0000"):
        pull(registry, tmp_path, f"ghcr.io/me/rescoldo@{digest}")


@pytest.mark.parametrize("content", [b"other", b"x" * 100_000], ids=["other", "longer"])
def test_a_layer_that_is_not_its_digest_is_not_kept(
    registry: MemoryRegistry, image: Image, tmp_path: Path, content: bytes
) -> None:
    registry._blobs[NAME.repository][image.layers[0].blob.digest] = content
    with pytest.raises(RegistryFailed, match="is not sha256:"):
        pull(registry, tmp_path)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_digest_that_would_lead_out_of_the_cache(registry: MemoryRegistry, image: Image, tmp_path: Path) -> None:
    rewritten(registry, image, lambda it: it["layers"][0].update(digest="sha256:../../../etc/passwd"))
    with pytest.raises(InvalidInput, match="which is no sha256 digest"):
        pull(registry, tmp_path)


def test_layers_compressed_in_another_way(registry: MemoryRegistry, image: Image, tmp_path: Path) -> None:
    zstd = "application/vnd.oci.image.layer.v1.tar+zstd"
    rewritten(registry, image, lambda it: it["layers"][0].update(mediaType=zstd))
    with pytest.raises(InvalidInput, match=r"has layers of .*zstd"):
        pull(registry, tmp_path)


def test_docker_s_media_types_become_oci_s(registry: MemoryRegistry, image: Image, tmp_path: Path) -> None:
    def change(it: dict[str, Any]) -> None:
        it["mediaType"] = "application/vnd.docker.distribution.manifest.v2+json"
        for layer in it["layers"]:
            layer["mediaType"] = "application/vnd.docker.image.rootfs.diff.tar.gzip"

    rewritten(registry, image, change)
    assert {one.blob.media_type for one in pull(registry, tmp_path).layers} == {image.layers[0].blob.media_type}


def test_what_is_no_image(registry: MemoryRegistry, image: Image, tmp_path: Path) -> None:
    rewritten(registry, image, lambda it: it.update(mediaType="application/vnd.cncf.helm.config.v1+json"))
    with pytest.raises(InvalidInput, match=r"is no image of a container, but application/vnd\.cncf\.helm"):
        pull(registry, tmp_path)


def test_a_configuration_that_is_too_large(registry: MemoryRegistry, image: Image, tmp_path: Path) -> None:
    rewritten(registry, image, lambda it: it["config"].update(size=2**30))
    with pytest.raises(InvalidInput, match="larger than"):
        pull(registry, tmp_path)
    assert (image.manifest.media_type, image.config.media_type) == (MANIFEST, CONFIG)
