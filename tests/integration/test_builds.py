"""Builds for faas-cli in a process of their own: bounds, order, leftovers."""

from __future__ import annotations

import asyncio
import io
import socket
import tarfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from rescoldo.bundle.builder import BuildLimits
from rescoldo.bundle.deps import find_uv, installer_command
from rescoldo.bundle.installer import run_installer
from rescoldo.control.deploy import builds as module
from rescoldo.control.deploy.building import run_bounded
from rescoldo.control.deploy.builds import Builds, BuildStep
from rescoldo.control.deploy.images import Images
from rescoldo.control.deploy.process_builder import MOST_CACHED, ProcessBuilder
from rescoldo.model.errors import Busy, NotSigned, StoreError, TooLarge, TooSlow
from rescoldo.model.settings import Settings
from rescoldo.store.protocol import Bundle
from rescoldo.tasks import Tasks
from support.faas_builder import HTTP, archive, shrinkwrapped

pytestmark = pytest.mark.slow
PATIENCE = 30.0  # seconds


class _Images:
    """Keeps the built bundles and layers."""

    def __init__(self) -> None:
        self.added: dict[str, bytes] = {}
        self.layers: list[bytes] = []
        self.failure: Exception | None = None

    async def add_layer(self, body: AsyncIterator[bytes], digest: str | None) -> str:
        self.layers.append(b"".join([chunk async for chunk in body]))
        return "l" * 64

    async def add(self, image: str, body: AsyncIterator[bytes], digest: str | None) -> Bundle:
        if self.failure is not None:
            raise self.failure
        self.added[image] = b"".join([chunk async for chunk in body])
        return Bundle(image, "d" * 64, len(self.added[image]), 0.0, 1)


class World:
    def __init__(self, folder: Path, seconds: float = PATIENCE, **settings: Any) -> None:
        self.settings = Settings(data=str(folder), run=str(folder), **settings)
        self.images = _Images()
        self.tasks = Tasks()
        builder = ProcessBuilder(self.settings.builds, BuildLimits(seconds=seconds))
        self.builds = Builds(self.settings, cast(Images, self.images), self.tasks, builder)

    async def build(self, body: bytes) -> list[BuildStep]:
        return [step async for step in await self.builds.build(chunks(body), "openfaas-fn")]

    def left(self) -> list[Path]:
        return list(self.settings.builds.glob("build-*"))


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def deaf_index() -> Iterator[str]:
    """A requirements.txt whose index takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"--index-url http://127.0.0.1:{server.getsockname()[1]}/simple\nnothing-here==1\n"


async def test_a_build_makes_a_bundle_and_leaves_nothing_else(world: World) -> None:
    steps = await world.build(archive(shrinkwrapped({"handler.py": HTTP, "data/a.txt": "1"}), "acme/f:1"))
    assert steps[-1] == BuildStep("success", "acme/f:1")
    with tarfile.open(fileobj=io.BytesIO(world.images.added["acme/f:1"])) as bundle:
        names = bundle.getnames()
    assert {"manifest.json", "function/handler.py", "function/data/a.txt"} <= set(names)
    assert not [name for name in names if "index.py" in name or "Dockerfile" in name]
    assert world.left() == []


async def test_the_loop_goes_on_while_hostile_source_is_compiled(world: World) -> None:
    """The compilation takes more than a second, during which it would hold the interpreter's lock."""
    code = HTTP + "x = [" + "[1, 2, 'a'], " * 60_000 + "]\n"
    longest, last = 0.0, time.perf_counter()
    building = asyncio.ensure_future(world.build(archive(shrinkwrapped({"handler.py": code}), "large:1")))
    while not building.done():
        await asyncio.sleep(0.005)
        longest, last = max(longest, time.perf_counter() - last), time.perf_counter()
    assert (await building)[-1].status == "success"
    assert longest < 0.5  # in this process it would be 1.3 s


async def test_a_build_that_takes_too_long_is_ended(tmp_path: Path, deaf_index: str) -> None:
    world = World(tmp_path, seconds=2.0)
    steps = await world.build(archive(shrinkwrapped({"handler.py": HTTP, "requirements.txt": deaf_index})))
    assert steps[-1].status == "failed" and "longer than 2 seconds" in steps[-1].error
    assert world.left() == [] and world.images.added == {}
    assert list((world.settings.builds / "requirements").glob("install-*")) == []


async def test_a_build_that_needs_too_much_memory_fails_alone(world: World) -> None:
    code = "x = [" + "[]," * 4_000_000 + "]\n" + HTTP
    steps = await world.build(archive(shrinkwrapped({"handler.py": code})))
    assert steps[-1].status == "failed" and ("memory" in steps[-1].error or "compiled" in steps[-1].error)
    assert world.left() == []


async def test_an_error_of_the_storage_fails_the_build(world: World) -> None:
    world.images.failure = StoreError("no space left")
    steps = await world.build(archive(shrinkwrapped({"handler.py": HTTP})))
    assert steps[-1].status == "failed" and steps[-1].error == "no space left"


async def test_builds_wait_for_their_turn_and_surplus_ones_are_refused(
    world: World, deaf_index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_BUILDS", 3)
    slow = archive(shrinkwrapped({"handler.py": HTTP, "requirements.txt": deaf_index}), "slow:1")
    running = [await world.builds.build(chunks(slow), "openfaas-fn") for _ in range(2)]
    firsts = [await anext(steps) for steps in running]
    assert {step.status for step in firsts} == {"in_progress"}
    third = await world.builds.build(
        chunks(archive(shrinkwrapped({"handler.py": HTTP}), "third:1")), "openfaas-fn"
    )
    assert "waiting" in (await anext(third)).line
    with pytest.raises(Busy):
        await world.builds.build(chunks(slow), "openfaas-fn")
    await running[0].aclose()  # its client leaves: there is room for the third
    assert [step.status async for step in third][-1] == "success"
    await running[1].aclose()
    async with asyncio.timeout(PATIENCE):
        while world.left():
            await asyncio.sleep(0.01)


async def test_an_upload_is_bounded_in_bytes_and_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, max_system_body=1000)
    with pytest.raises(TooLarge):
        await world.build(b"x" * 1001)
    monkeypatch.setattr(module, "UPLOAD_SECONDS", 0.1)

    async def endless() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.Event().wait()

    with pytest.raises(TooSlow):
        await world.builds.build(endless(), "openfaas-fn")

    async def forged() -> AsyncIterator[bytes]:
        yield b"x"
        raise NotSigned

    for _ in range(2 * module.MOST_BUILDS):  # none of them keeps a place
        with pytest.raises(NotSigned):
            await world.builds.build(forged(), "openfaas-fn")
    assert world.left() == []


async def test_the_next_start_removes_builds_of_a_killed_controller(world: World) -> None:
    left = world.settings.builds / "build-old" / "tree"
    left.mkdir(parents=True)
    (world.settings.builds / "requirements" / "install-old").mkdir(parents=True)
    (world.settings.builds / "requirements" / "kept").mkdir()
    await world.builds.prepare()
    assert world.left() == []
    assert [item.name for item in (world.settings.builds / "requirements").iterdir()] == ["kept"]


async def test_a_large_cache_of_requirements_is_emptied(world: World) -> None:
    cache = world.settings.builds / "requirements"
    for number in range(MOST_CACHED + 1):
        (cache / str(number)).mkdir(parents=True)
    await world.build(archive(shrinkwrapped({"handler.py": HTTP})))
    assert not cache.exists()


async def test_a_build_ends_with_its_controller(world: World, deaf_index: str) -> None:
    steps = await world.builds.build(
        chunks(archive(shrinkwrapped({"handler.py": HTTP, "requirements.txt": deaf_index}))), "openfaas-fn"
    )
    await anext(steps)
    await world.tasks.close()
    assert world.left() == []


@pytest.mark.parametrize("installer", ["uv", "pip"])
def test_without_root_an_installation_runs_no_code_of_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installer: str
) -> None:
    """A source package that is its own build backend, found without an index."""
    if installer == "pip":
        monkeypatch.setattr("rescoldo.bundle.deps.find_uv", lambda: None)
    elif find_uv() is None:
        pytest.skip("there is no uv here")
    for name in ("rescoldo.bundle.installer", "rescoldo.isolation.run"):
        monkeypatch.setattr(f"{name}.level", lambda: "unprivileged")
    monkeypatch.setattr("rescoldo.bundle.installer.os.geteuid", lambda: 1000)
    packages, marker = tmp_path / "packages", tmp_path / "ran"
    packages.mkdir()
    with tarfile.open(packages / "evil-1.0.tar.gz", "w:gz") as tar:
        for name, text in {
            "PKG-INFO": "Metadata-Version: 2.1\nName: evil\nVersion: 1.0\n",
            "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
            "backend.py": f"open({str(marker)!r}, 'w').close()\n",
        }.items():
            member = tarfile.TarInfo(f"evil-1.0/{name}")
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    for name, value in (("FIND_LINKS", str(packages)), ("NO_INDEX", "1")):
        monkeypatch.setenv(f"PIP_{name}", value)
        monkeypatch.setenv(f"UV_{name}", value)
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    requirements, target = tmp_path / "requirements.txt", tmp_path / "deps"
    requirements.write_text("evil\n")
    argv = installer_command(requirements, target)
    lines: list[str] = []
    assert run_bounded(argv, tmp_path, lines.append, wheels=True) != 0, lines
    assert not marker.exists()
    run_installer(argv, tmp_path, lines.append)
    assert marker.exists(), lines  # an installer with its rights runs the package's code
