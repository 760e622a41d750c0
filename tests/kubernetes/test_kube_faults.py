"""What is followed while a real API server is killed, stopped and restarted.

Only on a cluster that these tests brought up, or where $RESCOLDO_TEST_FAULTS is set.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from rescoldo.kube.client import LightkubeCluster
from rescoldo.kube.errors import ClusterUnavailable, Expired
from rescoldo.kube.follow import Changed, Follower, Gone, Snapshot
from rescoldo.kube.protocol import Object
from support.cluster_contract import CONFIG_MAPS
from support.faults import API_SERVER, GRACEFUL, api_server_answers
from support.patience import until
from support.testcluster import cluster

pytestmark = pytest.mark.slow


def name_of(obj: Object) -> str:
    return str(obj["metadata"]["name"])


def config_map(name: str, namespace: str) -> Object:
    return {"metadata": {"name": name, "namespace": namespace, "labels": {"test": "yes"}}}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("fault", ["kill", "stop"])
async def test_a_follower_goes_on_after_the_api_server(
    fault: str, faults: None, api_server: LightkubeCluster, namespaces: tuple[str, str]
) -> None:
    namespace = namespaces[0]
    told: asyncio.Queue[Any] = asyncio.Queue()
    follower = Follower(api_server, CONFIG_MAPS, name_of, namespace=namespace, labels="test=yes")

    async def follow() -> None:
        async for change in follower.changes():
            told.put_nowait(change)

    await api_server.create(CONFIG_MAPS, made := config_map(f"before-{fault}", namespace))
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(follow())
        assert await told.get() == Snapshot([name_of(made)])
        await asyncio.to_thread(cluster, fault, API_SERVER)
        await until(lambda: follower.problem, GRACEFUL)
        before = follower.unconfirmed()
        with pytest.raises(ClusterUnavailable):
            await api_server.get(CONFIG_MAPS, "any", namespace)
        await until(lambda: follower.unconfirmed() > before + 2)
        await asyncio.to_thread(cluster, "start", API_SERVER)
        await until(lambda: asyncio.to_thread(api_server_answers), GRACEFUL)
        await api_server.create(CONFIG_MAPS, config_map(f"after-{fault}", namespace))
        await api_server.delete(CONFIG_MAPS, name_of(made), namespace)
        async with asyncio.timeout(30):
            changes = [await told.get(), await told.get()]
        assert Changed(f"after-{fault}") in changes
        assert [change.name for change in changes if isinstance(change, Gone)] == [name_of(made)]
        await until(lambda: not follower.problem)
        assert follower.unconfirmed() < 30
        await api_server.delete(CONFIG_MAPS, f"after-{fault}", namespace)
        assert isinstance(await told.get(), Gone)
        task.cancel()


@pytest.mark.timeout(300)
async def test_an_api_server_that_was_restarted_does_not_know_old_changes(
    faults: None, api_server: LightkubeCluster, namespaces: tuple[str, str]
) -> None:
    namespace = namespaces[0]
    old = (await api_server.create(CONFIG_MAPS, config_map("old", namespace)))["metadata"]["resourceVersion"]
    new = await api_server.patch(CONFIG_MAPS, "old", {"data": {"a": "1"}}, namespace)
    revision = {"revision": new["metadata"]["resourceVersion"], "physical": True}
    url = "http://127.0.0.1:2379/v3/kv/compaction"
    answer = await asyncio.to_thread(cluster, "enter", "curl", "--silent", url, "--data", json.dumps(revision))
    assert "error" not in answer
    await asyncio.to_thread(cluster, "kill", API_SERVER)
    await asyncio.to_thread(cluster, "start", API_SERVER)
    await until(lambda: asyncio.to_thread(api_server_answers), GRACEFUL)
    with pytest.raises(Expired, match="too old resource version"):
        async for event in api_server.watch(CONFIG_MAPS, old, namespace):
            assert event.type == "OPENED"
    await api_server.delete(CONFIG_MAPS, "old", namespace)
