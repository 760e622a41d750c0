"""Builds in pods: what hostile pods can do, what is told of pods that do not run, and what is left behind."""

from __future__ import annotations

import asyncio
import json
import tarfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from rescoldo.api.server import MOST_OF_GUEST
from rescoldo.bundle.builder import BuildOrder
from rescoldo.cluster.build_desk import MOST_LINE, MOST_LOG, BuildDesk
from rescoldo.cluster.build_pod import BUILD, PODS, TEMPLATE, TEMPLATES, PodState, state_of
from rescoldo.cluster.pod_builder import BUILD_URI
from rescoldo.kube.secrets import SECRETS
from rescoldo.link.builds import BuildClient, ControlFailed
from rescoldo.link.client import ControlClient
from rescoldo.link.identity import Identity
from rescoldo.model.errors import BuildFailed, Conflict, InvalidInput, TooLarge
from support.build_cluster import BuildCluster, Report
from support.faas_builder import HTTP, archive, shrinkwrapped
from support.patience import until
from support.spy_package import served

GOOD = archive(shrinkwrapped({"handler.py": HTTP}), "acme/f:1")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[BuildCluster]:
    async with BuildCluster(tmp_path).running() as made:
        made.run_pods = False
        yield made


def order(folder: Path, data: bytes = GOOD, namespace: str = "openfaas-fn") -> BuildOrder:
    folder.mkdir()
    (folder / "upload.tar").write_bytes(data)
    return BuildOrder(folder / "upload.tar", folder, namespace)


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


def desk(folder: Path, report: Report, most: int = 100) -> BuildDesk:
    return BuildDesk(order(folder), report, most)


@asynccontextmanager
async def building(
    world: BuildCluster, folder: Path, report: Report, data: bytes = GOOD
) -> AsyncIterator[asyncio.Future[Any]]:
    """A build whose pod exists, and does nothing by itself."""
    found = asyncio.ensure_future(world.builder.build(order(folder, data), report))
    await until(world.pods)
    await until(lambda: any("building in pod" in line for line in report.lines))
    yield found
    found.cancel()
    await asyncio.wait((found,))
    assert await world.left() == []


def client_of(world: BuildCluster, build: str) -> BuildClient:
    return BuildClient(world.url, Identity(world.identity(BUILD_URI + build, f"id-{build}")).read())


async def build_id(world: BuildCluster) -> str:
    (pod,) = await world.pods()
    return str(pod["metadata"]["labels"][BUILD])


async def test_the_name_of_the_image_comes_from_the_client_alone(tmp_path: Path) -> None:
    report = Report()
    found = desk(tmp_path / "b", report)
    line = json.dumps({"log": "a \x1b[31mred\x1b[0m \u202eline"}).encode()
    await found.listen(chunks(b'{"image": "some', b'body/elses:1"}\n', line, b"\n"))
    assert report == Report("", ["a red \\u202eline"])


async def test_what_a_pod_says_is_bounded(tmp_path: Path) -> None:
    report = Report()
    with pytest.raises(TooLarge):
        await desk(tmp_path / "a", report).listen(chunks(b"x" * (MOST_LINE + 1)))
    lines = [json.dumps({"log": "y" * 60_000}).encode() + b"\n"] * (MOST_LOG // 60_000 + 1)
    with pytest.raises(TooLarge):
        await desk(tmp_path / "b", report).listen(chunks(*lines))
    assert max(map(len, report.lines)) == 3000
    for bad in (b"no json\n", b"[1]\n", b"[" * 1000 + b"\n"):
        with pytest.raises(InvalidInput):
            await desk(tmp_path / f"c{len(bad)}", report).listen(chunks(bad))


async def test_a_pod_sends_one_bundle_of_bounded_size(tmp_path: Path) -> None:
    found = desk(tmp_path / "b", Report(), most=10)
    with pytest.raises(TooLarge):
        await found.receive("layer", chunks(b"x" * 6, b"x" * 6))
    with pytest.raises(Conflict):
        await found.receive("layer", chunks(b"x"))
    await found.receive("bundle", chunks(b"one"))
    with pytest.raises(Conflict):
        await found.receive("bundle", chunks(b"two"))
    built = found.built.result()
    assert built.bundle.read_bytes() == b"one" and built.layer is None, "a layer that was cut is none"


async def test_only_the_pod_of_a_build_reaches_its_archive(world: BuildCluster, tmp_path: Path) -> None:
    async with building(world, tmp_path / "b", Report()) as running:
        own = client_of(world, await build_id(world))
        await asyncio.to_thread(own.fetch, tmp_path / "mine")
        assert (tmp_path / "mine").read_bytes() == GOOD
        other = client_of(world, "0123456789abcdef")
        worker = BuildClient(world.url, Identity(world.identity("rescoldo://pool/openfaas-fn", "worker")).read())
        for stranger in (other, worker):
            with pytest.raises(ControlFailed, match="of no build"):
                await asyncio.to_thread(stranger.fetch, tmp_path / f"stolen-{id(stranger)}")
            with pytest.raises(ControlFailed, match="of no build"):
                await asyncio.to_thread(stranger.send, "bundle", tmp_path / "mine")
        assert not running.done()
    with pytest.raises(ControlFailed, match="of no build"):  # it is over
        await asyncio.to_thread(own.fetch, tmp_path / "late")


async def test_a_pod_cannot_take_all_connections(world: BuildCluster, tmp_path: Path) -> None:
    async with building(world, tmp_path / "b", Report()):
        tls = Identity(world.identity(BUILD_URI + await build_id(world), "id")).read()
        port = int(world.url.rpartition(":")[2])
        async with AsyncExitStack() as opened:
            ends = []
            for _ in range(MOST_OF_GUEST + 3):
                reader, writer = await asyncio.open_connection("localhost", port, ssl=tls)
                opened.callback(writer.close)
                ends.append(asyncio.ensure_future(reader.read()))
            await until(lambda: sum(end.done() for end in ends) == 3)
            other = Identity(world.identity("rescoldo://pool/openfaas-fn", "worker")).read()
            client = ControlClient(world.url, other)
            assert await client.versions() == {}
            await client.close()
        await asyncio.wait(ends)
        for end in ends:
            end.exception()


async def test_a_builds_certificate_opens_nothing_of_workers(world: BuildCluster, tmp_path: Path) -> None:
    async with building(world, tmp_path / "b", Report()):
        folder = world.identity(BUILD_URI + await build_id(world), "id")
        client = ControlClient(world.url, Identity(folder).read())
        for ask in (client.versions, lambda: client.secrets(["word"])):
            with pytest.raises(InvalidInput, match="of no pool"):
                await ask()  # type: ignore[operator]
        await client.close()


async def test_a_secret_of_a_build_has_its_certificate_alone_and_goes_with_the_template(
    world: BuildCluster, tmp_path: Path
) -> None:
    async with building(world, tmp_path / "b", Report()):
        (pod,) = await world.pods()
        secret = await world.cluster.get(SECRETS, pod["metadata"]["name"], "openfaas-fn")
        assert set(secret["data"]) == {"tls.crt", "tls.key", "ca.crt"}
        template = await world.cluster.get(TEMPLATES, TEMPLATE, "openfaas-fn")
        for obj in (pod, secret):
            assert [owner["uid"] for owner in obj["metadata"]["ownerReferences"]] == [template["metadata"]["uid"]]
        assert pod["spec"]["automountServiceAccountToken"] is False
        assert {key for volume in pod["spec"]["volumes"] for key in volume} == {"name", "emptyDir", "secret"}


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ({}, PodState()),
        ({"phase": "Running", "containerStatuses": [{"state": {"running": {}}}]}, PodState()),
        ({"containerStatuses": [{"state": {"waiting": {"reason": "ContainerCreating"}}}]}, PodState()),
        (
            {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes"}]},
            PodState(waiting="its pod is not scheduled: 0/1 nodes"),
        ),
        (
            {"containerStatuses": [{"state": {"waiting": {"reason": "ErrImagePull", "message": "no"}}}]},
            PodState(waiting="its pod waits: ErrImagePull: no"),
        ),
        (
            {"phase": "Failed", "containerStatuses": [{"state": {"terminated": {"reason": "OOMKilled"}}}]},
            PodState(ended="it needs more memory than build.resources gives its pod"),
        ),
        (
            {"phase": "Failed", "containerStatuses": [{"state": {"terminated": {"exitCode": 1, "message": "why\n"}}}]},
            PodState(ended="its pod ended with status 1: why"),
        ),
        ({"phase": "Failed", "reason": "Evicted", "message": "disk"}, PodState(ended="its pod was evicted: disk")),
        (
            {"phase": "Failed", "reason": "DeadlineExceeded"},
            PodState(ended="its pod took longer than build.timeoutSeconds allows"),
        ),
    ],
)
def test_states_of_pods(status: Mapping[str, Any], state: PodState) -> None:
    assert state_of({"metadata": {}, "status": status}) == state


async def test_what_keeps_a_pod_from_running_is_told_once_and_its_end_ends_the_build(
    world: BuildCluster, tmp_path: Path
) -> None:
    report = Report()
    async with building(world, tmp_path / "b", report) as running:
        condition = {"type": "PodScheduled", "status": "False", "message": "Insufficient\ncpu"}
        for number in range(3):
            await world.set_status({"phase": "Pending", "conditions": [condition], "n": number})
        await world.set_status({"phase": "Failed", "containerStatuses": [{"state": {"terminated": {"exitCode": 3}}}]})
        with pytest.raises(BuildFailed, match="ended with status 3"):
            await running
    assert sum("Insufficient" in line for line in report.lines) <= 1


async def test_a_deleted_pod_ends_its_build(world: BuildCluster, tmp_path: Path) -> None:
    async with building(world, tmp_path / "b", Report()) as running:
        (pod,) = await world.pods()
        await world.cluster.delete(PODS, pod["metadata"]["name"], "openfaas-fn")
        with pytest.raises(BuildFailed, match="was deleted"):
            await running


async def test_what_an_earlier_control_left_goes_and_what_runs_stays(world: BuildCluster, tmp_path: Path) -> None:
    labels = {"app.kubernetes.io/name": "rescoldo", "app.kubernetes.io/component": "build", BUILD: "old"}
    for kind in (PODS, SECRETS):
        await world.cluster.create(kind, {"metadata": {"name": "old", "namespace": "blue", "labels": labels}})
    foreign = {"name": "somebody", "namespace": "blue", "labels": {"app.kubernetes.io/component": "build"}}
    await world.cluster.create(PODS, {"metadata": foreign})
    await world.builder.prepare()
    assert await world.left() == ["somebody"]
    await world.cluster.delete(PODS, "somebody", "blue")
    async with building(world, tmp_path / "b", Report()) as running:
        before = await world.left()
        await world.builder.prepare()
        assert await world.left() == before and not running.done()


async def test_a_namespace_builds_only_where_it_has_a_template(world: BuildCluster, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="elsewhere"):
        world.builder.check("elsewhere")
    await world.cluster.delete(TEMPLATES, TEMPLATE, "blue")
    with pytest.raises(BuildFailed, match=r"build\.enabled"):
        await world.builder.build(order(tmp_path / "b", namespace="blue"), Report())


async def test_without_the_rights_of_builds_control_starts_all_the_same(
    world: BuildCluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world.cluster.forbidden = {"get", "list"}
    await world.builder.prepare()
    with pytest.raises(BuildFailed, match=r"build\.enabled"):
        await world.builder.build(order(tmp_path / "b"), Report())
    assert [one for one in caplog.records if "left" in one.message] == []


async def test_code_of_packages_runs_in_the_pod(
    world: BuildCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.run_pods = True
    monkeypatch.setenv("OF_CONTROL", "secret")
    report, folder = Report(), tmp_path / "packages"
    folder.mkdir()
    with served(folder, "return sorted(os.environ)") as package:
        data = archive(shrinkwrapped({"handler.py": HTTP, "requirements.txt": f"spy @ {package}\n"}))
        built = await world.builder.build(order(tmp_path / "b", data), report)
    assert built.layer is not None, report.lines
    with tarfile.open(built.layer) as layer:
        (name,) = [name for name in layer.getnames() if name.endswith("/spy.py")]
        file = layer.extractfile(name)
        assert file is not None
        seen = file.read()
    assert b"PATH" in seen and b"OF_CONTROL" not in seen
