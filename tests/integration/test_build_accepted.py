"""The builder and the storage agree on the format of bundles."""

import os
from pathlib import Path

import pytest

from rescoldo.bundle.build import BuildRequest, build
from rescoldo.bundle.storage import BundleStorage
from rescoldo.stack.templates import BUILT_IN, find_template


async def _stream(path: Path):
    yield path.read_bytes()


def _installs(argv, work: Path, on_line) -> int:
    (work / "deps/package").mkdir()
    (work / "deps/package/__init__.py").write_text("X = 1\n")
    (work / "deps/package/alias.py").symlink_to("__init__.py")
    return 0


@pytest.mark.parametrize("lang", sorted(folder.name for folder in BUILT_IN.iterdir()))
async def test_the_storage_accepts_the_builders_bundles(lang, tmp_path):
    template = find_template(lang, tmp_path)
    folder = tmp_path / "hello"
    folder.mkdir()
    for file in template.handler.glob("*.*"):
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "requirements.txt").write_text("package\n")
    (folder / "data").mkdir()
    (folder / "data/text.txt").write_text("x")
    (folder / "data/tool").write_text("#!/bin/sh\n")
    (folder / "data/tool").chmod(0o700)
    (folder / "link.txt").symlink_to("data/text.txt")
    request = BuildRequest("hello", lang, template.style, folder, tmp_path)
    built = build(request, tmp_path / "build/hello", lambda line: None, _installs, tmp_path / "cache")

    storage = BundleStorage(tmp_path / "bundles", tmp_path / "uploads", own_gids=False)
    await storage.prepare()
    layer = await storage.layers.receive(_stream(built.layer.path), 2**20, built.layer.digest)
    await storage.layers.unpack(layer)
    received = await storage.receive(_stream(built.path), 2**20, built.digest)
    assert (received.digest, received.size) == (built.digest, built.size)
    await storage.unpack(received)
    unpacked = storage.path(received.digest)
    assert unpacked.name == built.digest
    assert (unpacked / "function/link.txt").read_text() == "x"
    assert os.access(unpacked / "function/data/tool", os.X_OK)
    assert (unpacked / "deps/package/alias.py").read_text() == "X = 1\n"
    if lang == "process":
        return
    assert (unpacked / "function/handler.py").read_bytes() == (template.handler / "handler.py").read_bytes()
    assert list((unpacked / "function/__pycache__").iterdir())
