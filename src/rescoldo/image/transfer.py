"""Moves whole images: a base from its registry, an image to another."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

from rescoldo.image.bases import Base
from rescoldo.image.blobs import GZIP_LAYER, INDEX, MANIFEST, PLAIN_LAYER, Blob, Image, Layer
from rescoldo.image.cache import LayerCache
from rescoldo.image.protocol import Registry, RegistryFailed, Sent
from rescoldo.image.reference import Reference, is_digest
from rescoldo.model.errors import InvalidInput

_DOCKER = "application/vnd.docker"
_INDEXES = (INDEX, f"{_DOCKER}.distribution.manifest.list.v2+json")
_MANIFESTS = (MANIFEST, f"{_DOCKER}.distribution.manifest.v2+json")
# Docker's media types are of the same bytes
_LAYERS = {
    GZIP_LAYER: GZIP_LAYER,
    PLAIN_LAYER: PLAIN_LAYER,
    f"{_DOCKER}.image.rootfs.diff.tar.gzip": GZIP_LAYER,
    f"{_DOCKER}.image.rootfs.diff.tar": PLAIN_LAYER,
}
MOST_CONFIG = 4 * 2**20  # bytes

Bar = Callable[[str, int], AbstractContextManager[Sent]]  # (text, bytes of all) → what is told each number of bytes


def pull_base(registry: Registry, name: Reference, architecture: str, cache: LayerCache, bar: Bar) -> Base:
    """Return the image `name` as a base, for linux/`architecture`; its layers are in `cache`.

    Raises InvalidInput, RegistryFailed, RegistryRefused and NotInRegistry.
    """
    manifest = _manifest(registry, name, architecture)
    described = _json(manifest, name)
    for one in (described["config"], *described["layers"]):
        if not is_digest(one["digest"]):  # it becomes a file's name
            raise InvalidInput(f"--base {name} names {one['digest'][:100]!r}, which is no sha256 digest")
    config = json.loads(_small(registry, name, described["config"]))
    layers = described["layers"]
    if unknown := [one["mediaType"] for one in layers if one["mediaType"] not in _LAYERS]:
        raise InvalidInput(f"--base {name} has layers of {unknown[0]}, which cannot be read here: choose another base")
    blobs = [_fetch(registry, name, one, cache, bar) for one in layers]
    found = tuple(Layer(blob, diff) for blob, diff in zip(blobs, config["rootfs"]["diff_ids"], strict=True))
    return Base(str(name), manifest.digest, found, config.get("config") or {}, tuple(config.get("history") or ()))


def push(registry: Registry, image: Image, name: Reference, bar: Bar, *, origin: str = "") -> None:
    """Send what `name`'s repository lacks of `image`, and then its manifest, so that no one finds half an image.

    `origin` is a repository of the same registry that has the base's layers. Raises RegistryFailed, RegistryRefused.
    """
    repository = name.repository
    for blob in image.blobs:
        if registry.has(repository, blob.digest):
            continue
        if origin not in ("", repository) and registry.mount(repository, blob.digest, origin):
            continue
        with bar(f"push {blob.digest[7:19]}", blob.size) as sent:
            registry.put(repository, blob, sent)
    registry.put_manifest(repository, name.tag, image.manifest)


def _manifest(registry: Registry, name: Reference, architecture: str) -> Blob:
    found = _checked(registry.manifest(name.repository, name.version), name.digest)
    if found.media_type in _INDEXES:
        for one in _json(found, name)["manifests"]:
            platform = one.get("platform") or {}
            if (platform.get("os"), platform.get("architecture")) == ("linux", architecture):
                found = _checked(registry.manifest(name.repository, one["digest"]), one["digest"])
                break
        else:
            raise InvalidInput(f"--base {name} is not for linux/{architecture}, this machine: choose another base")
    if found.media_type not in _MANIFESTS:
        raise InvalidInput(f"--base {name} is no image of a container, but {found.media_type[:100] or 'unknown'}")
    return found


def _checked(manifest: Blob, digest: str) -> Blob:
    if digest and manifest.digest != digest:
        raise RegistryFailed(f"the registry's manifest is not that of {digest}")
    return manifest


def _json(manifest: Blob, name: Reference) -> dict[str, Any]:
    try:
        return dict(json.loads(b"".join(manifest.read())))
    except ValueError as error:
        raise RegistryFailed(f"the manifest of {name} is no JSON") from error


def _small(registry: Registry, name: Reference, described: Mapping[str, Any]) -> bytes:
    if described["size"] > MOST_CONFIG:
        raise InvalidInput(f"the configuration of {name} is larger than {MOST_CONFIG} bytes")
    return b"".join(_received(registry, name, described, lambda _: None))


def _fetch(registry: Registry, name: Reference, described: Mapping[str, Any], cache: LayerCache, bar: Bar) -> Blob:
    """Return a layer, from `cache` if it is there: it was checked when it came."""
    digest, size = described["digest"], described["size"]
    if (path := cache.find(digest)) is None:
        with cache.adding(digest) as file, bar(f"pull {digest[7:19]}", size) as received:
            for piece in _received(registry, name, described, received):
                file.write(piece)
        path = cache.find(digest)
        assert path is not None
    return Blob(path, digest, size, _LAYERS[described["mediaType"]])


def _received(registry: Registry, name: Reference, described: Mapping[str, Any], received: Sent) -> Iterator[bytes]:
    """Yield a blob's content; raises RegistryFailed at its end if it is not that of its digest, or too long."""
    seen, size = hashlib.sha256(), 0
    with registry.read(name.repository, described["digest"]) as pieces:
        for piece in pieces:
            size += len(piece)
            if size > described["size"]:
                break
            seen.update(piece)
            received(len(piece))
            yield piece
    if (f"sha256:{seen.hexdigest()}", size) != (described["digest"], described["size"]):
        raise RegistryFailed(f"what the registry sent of {name} is not {described['digest']}; try again")
