"""Layers of bases, kept by digest."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rescoldo.image import cache as module
from rescoldo.image.cache import IN_USE_SECONDS, LayerCache, default_cache

DIGESTS = [f"sha256:{letter * 64}" for letter in "abc"]
NOW = 2_000_000_000.0


@pytest.fixture
def cache(tmp_path: Path) -> LayerCache:
    return LayerCache(tmp_path / "a" / "cache")


def add(cache: LayerCache, digest: str, size: int, used: float) -> None:
    with cache.adding(digest) as file:
        file.write(b"x" * size)
    path = cache.find(digest)
    assert path is not None
    os.utime(path, (used, used))


def there(cache: LayerCache) -> list[bool]:
    return [cache.find(digest) is not None for digest in DIGESTS]


def test_a_layer_is_found_once_it_is_whole(cache: LayerCache) -> None:
    with cache.adding(DIGESTS[0]) as file:
        file.write(b"content")
        assert cache.find(DIGESTS[0]) is None
    found = cache.find(DIGESTS[0])
    assert found is not None and found.read_bytes() == b"content"


def test_a_layer_that_fails_leaves_nothing(cache: LayerCache, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), cache.adding(DIGESTS[0]) as file:
        file.write(b"half")
        raise RuntimeError
    assert list((tmp_path / "a" / "cache").iterdir()) == []


def test_the_least_recently_used_layers_go(cache: LayerCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROOM", 100)
    for digest, ago in zip(DIGESTS, (3, 2, 1), strict=True):
        add(cache, digest, 40, NOW - ago * IN_USE_SECONDS - 1)
    cache.trim(NOW)
    assert there(cache) == [False, True, True]


def test_a_layer_in_use_stays(cache: LayerCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROOM", 0)
    for digest, ago in zip(DIGESTS, (IN_USE_SECONDS + 1, IN_USE_SECONDS - 1, 0.0), strict=True):
        add(cache, digest, 40, NOW - ago)
    cache.trim(NOW)
    assert there(cache) == [False, True, True]


def test_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/some/cache")
    assert default_cache() == Path("/some/cache/rescoldo/images")
