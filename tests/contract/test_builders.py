"""What whoever orders builds may expect of a builder: in a process beside it, and in pods of a cluster."""

from __future__ import annotations

import asyncio
import tarfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from socket import create_server

import pytest

from rescoldo.bundle.builder import Builder, BuildLimits, BuildOrder
from rescoldo.control.deploy.process_builder import ProcessBuilder
from rescoldo.model.errors import RescoldoError
from support.build_cluster import BuildCluster, Report
from support.faas_builder import HTTP, archive, shrinkwrapped
from support.patience import until

pytestmark = pytest.mark.slow


@dataclass
class World:
    builder: Builder
    folder: Path
    left: Callable[[], Awaitable[list[str]]]  # what runs, or is kept for what runs
    number: int = 0

    def order(self, data: bytes) -> BuildOrder:
        self.number += 1
        folder = self.folder / f"build-{self.number}"
        folder.mkdir(parents=True)
        (folder / "upload.tar").write_bytes(data)
        return BuildOrder(folder / "upload.tar", folder, "openfaas-fn")


@asynccontextmanager
async def process_world(folder: Path) -> AsyncIterator[World]:
    async def left() -> list[str]:
        marks = [f"{folder}/build-{number}/" for number in range(1, 10)]
        return [text for text in _commands() if any(mark in text for mark in marks)]

    yield World(ProcessBuilder(folder, BuildLimits(seconds=30.0)), folder, left)


@asynccontextmanager
async def pod_world(folder: Path) -> AsyncIterator[World]:
    async with BuildCluster(folder / "cluster").running() as cluster:
        yield World(cluster.builder, folder, cluster.left)


@pytest.fixture(params=[process_world, pod_world], ids=["process", "pod"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    async with request.param(tmp_path) as made:
        await made.builder.prepare()
        yield made


@pytest.fixture
def deaf_index() -> Iterator[str]:
    """A requirements.txt whose index takes connections and never answers."""
    with create_server(("127.0.0.1", 0)) as server:
        yield f"--index-url http://127.0.0.1:{server.getsockname()[1]}/simple\nnothing-here==1\n"


async def test_a_build_leaves_a_bundle_and_says_what_it_does(world: World) -> None:
    report = Report()
    built = await world.builder.build(world.order(archive(shrinkwrapped({"handler.py": HTTP}), "acme/f:1")), report)
    assert report.image == "acme/f:1"
    assert any("building acme/f:1" in line for line in report.lines)
    with tarfile.open(built.bundle) as bundle:
        assert {"manifest.json", "function/handler.py"} <= set(bundle.getnames())
    assert built.layer is None
    assert await world.left() == []


async def test_builds_run_side_by_side_and_do_not_mix(world: World) -> None:
    orders = [world.order(archive(shrinkwrapped({"handler.py": HTTP, f"{n}.dat": n}), n)) for n in ("one", "two")]
    built = await asyncio.gather(*(world.builder.build(order, Report()) for order in orders))
    for files, name in zip(built, ("one", "two"), strict=True):
        with tarfile.open(files.bundle) as bundle:
            assert [n for n in bundle.getnames() if n.endswith(".dat")] == [f"function/{name}.dat"]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (archive({"Dockerfile": "FROM scratch"}), "runs no Dockerfile"),
        (archive(shrinkwrapped({"handler.py": HTTP, "requirements.txt": "a ; ; b\n"})), "requirements.txt:1"),
        (b"no tar", "tar archive"),
        (archive(shrinkwrapped({"handler.py": HTTP}), ""), "image is missing"),
    ],
)
async def test_a_build_that_fails_says_why(world: World, data: bytes, reason: str) -> None:
    with pytest.raises(RescoldoError, match=reason):
        await world.builder.build(world.order(data), Report())
    assert await world.left() == []


async def test_nothing_of_a_cancelled_build_goes_on(world: World, deaf_index: str) -> None:
    report = Report()
    order = world.order(archive(shrinkwrapped({"handler.py": HTTP, "requirements.txt": deaf_index})))
    building = asyncio.ensure_future(world.builder.build(order, report))
    await until(lambda: any("installing" in line for line in report.lines))
    assert await world.left() != []
    building.cancel()
    with suppress(asyncio.CancelledError):
        await building
    assert await world.left() == []


def test_limits_allow_a_build(tmp_path: Path) -> None:
    for builder in (ProcessBuilder(tmp_path), BuildCluster(tmp_path).builder):
        assert builder.limits.running >= 1 and builder.limits.seconds > 0
        builder.check("openfaas-fn")


def _commands() -> Iterator[str]:
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            yield file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
