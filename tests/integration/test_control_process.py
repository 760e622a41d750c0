"""A cluster's control as a process, with an API server in memory: its doors, and an API server that is away."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from rescoldo.assembly.control_process import ControlProcess
from rescoldo.cluster.settings import ControlSettings
from rescoldo.kube.fake import FakeCluster
from rescoldo.kube.functions import FUNCTIONS, to_object
from rescoldo.kube.protocol import Cluster
from rescoldo.kube.secrets import SECRETS
from rescoldo.model.errors import NotFound
from rescoldo.model.function import FunctionSpec
from rescoldo.model.settings import Settings
from support.archives import bundle_archive
from support.patience import until
from support.ports import free_ports

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]


class World:
    """A control, and what a client sees of it."""

    def __init__(self, folder: Path) -> None:
        self.cluster = FakeCluster()
        self.folder = folder
        self.api, link, self.gateway = free_ports(3)
        self.settings = ControlSettings(
            Settings(str(folder / "data"), str(folder / "run")),
            system="system",
            namespaces=("openfaas-fn",),
            gateway=f"http://127.0.0.1:{self.gateway}",  # where nobody is
            api=f"127.0.0.1:{self.api}",
            link=f"127.0.0.1:{link}",
        )
        self.link = link

    def find(self, kubeconfig: Path | None) -> AbstractAsyncContextManager[Cluster]:
        @asynccontextmanager
        async def found() -> AsyncIterator[Cluster]:
            yield self.cluster

        return found()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[ControlProcess]:
        process = ControlProcess(self.settings, self.find)
        task = asyncio.create_task(process.run())
        try:
            yield process
        finally:
            process.stop()
            await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled() or task.exception() is None

    async def call(self, method: str, path: str, login: bool = True, **request: Any) -> httpx2.Response:
        auth = None
        if login:
            data = (await self.cluster.get(SECRETS, "rescoldo-login", "system"))["data"]
            auth = tuple(base64.b64decode(data[f"basic-auth-{part}"]).decode() for part in ("user", "password"))
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{self.api}", trust_env=False, timeout=20) as client:
            return await client.request(method, path, auth=auth, **request)

    async def healthy(self) -> bool:
        try:
            return (await self.call("GET", "/healthz", login=False)).status_code == 200
        except httpx2.HTTPError:
            return False

    async def function(self) -> Any:
        return await self.cluster.get(FUNCTIONS, "fn", "openfaas-fn")


@pytest.fixture
async def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def upload(world: World, image: str) -> None:
    answer = await world.call("POST", f"/system/bundles?image={image}", content=bundle_archive())
    assert answer.status_code == 201, answer.text


async def test_without_workers_it_saves_and_shows_what_both_doors_ask_for(world: World) -> None:
    async with world.running():
        await until(world.healthy)
        assert (await world.call("GET", "/system/functions", login=False)).status_code == 401
        await upload(world, "me/fn:1")
        answer = await world.call("POST", "/system/functions", json={"service": "api", "image": "me/fn:1"})
        assert (answer.status_code, "no worker has taken it over yet" in answer.text) == (202, True)
        spec = FunctionSpec("fn", "me/fn:1")
        await world.cluster.apply(FUNCTIONS, to_object(spec), manager="kubectl", force=True)
        await until(lambda: observed(world))
        listed = {one["name"]: one["state"] for one in (await world.call("GET", "/system/functions")).json()}
        assert listed == {"api": "asleep", "fn": "asleep"}
        await until(lambda: unowned(world))
        assert (await world.call("DELETE", "/system/functions", json={"functionName": "fn"})).status_code == 202
        await until(lambda: is_gone(world))
        assert await world.cluster.get(FUNCTIONS, "api", "openfaas-fn")
    async with world.running():  # another process
        await until(world.healthy)
        assert [one["name"] for one in (await world.call("GET", "/system/functions")).json()] == ["api"]


async def test_its_status_tells_the_level_of_its_workers(world: World) -> None:
    world.settings = replace(world.settings, isolation="full")
    async with world.running():
        await until(world.healthy)
        assert (await world.call("GET", "/system/status")).json()["isolation"]["level"] == "full"


async def unowned(world: World) -> bool:
    conditions = (await world.function())["status"]["conditions"]
    return ("Acknowledged", "False", "NoWorker") in [(one["type"], one["status"], one["reason"]) for one in conditions]


async def is_gone(world: World) -> bool:
    try:
        await world.function()
    except NotFound:
        return True
    return False


async def observed(world: World) -> bool:
    found = await world.function()
    return bool(found.get("status", {}).get("observedGeneration") == found["metadata"]["generation"])


async def test_it_waits_for_an_api_server_that_is_away(world: World) -> None:
    world.cluster.go_away()
    async with world.running():
        await until(lambda: world.cluster.requests)  # in vain
        world.cluster.come_back()
        await until(world.healthy)


async def test_it_can_be_stopped_while_it_waits(world: World) -> None:
    world.cluster.go_away()
    async with world.running() as process:
        await until(lambda: world.cluster.requests)
        process.stop()


async def test_the_link_wants_a_certificate_of_a_pool(world: World) -> None:
    async with world.running():
        await until(world.healthy)
        async with httpx2.AsyncClient(verify=False, trust_env=False) as client:
            with pytest.raises(httpx2.HTTPError):
                await client.get(f"https://127.0.0.1:{world.link}/link/functions")
