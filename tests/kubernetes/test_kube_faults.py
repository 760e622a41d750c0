"""What is followed while a real API server is killed, stopped and restarted.

Only on a cluster that nobody else uses: $RESCOLDO_TEST_CLUSTER names the program that kills and starts its components.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from rescoldo.kube.client import LightkubeCluster
from rescoldo.kube.errors import ClusterUnavailable, Expired
from rescoldo.kube.follow import Changed, Follower, Gone, Snapshot
from rescoldo.kube.protocol import Object
from support.cluster_contract import CONFIG_MAPS
from support.patience import until
from support.real_cluster import Kubectl

API_SERVER = "kube-apiserver"
# seconds; an API server that is stopped accepts nothing more, but goes on with open requests for 60 s: a watch is heard
# of until it ends
GRACEFUL = 75.0
Control = Callable[..., str]


@pytest.fixture
def control(kubectl: Kubectl) -> Iterator[Control]:
    """Runs the cluster's program; afterwards the API server runs."""
    program = os.environ.get("RESCOLDO_TEST_CLUSTER")
    if not program:
        pytest.skip("faults of the API server: $RESCOLDO_TEST_CLUSTER names no program that makes them")

    def run(*arguments: str) -> str:
        done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    yield run
    run("start", API_SERVER)  # or it runs already
    deadline = time.monotonic() + GRACEFUL
    while not answers(kubectl):
        assert time.monotonic() < deadline
        time.sleep(0.2)


def answers(kubectl: Kubectl) -> bool:
    return kubectl("get", "--raw", "/readyz", check=False).returncode == 0


def name_of(obj: Object) -> str:
    return str(obj["metadata"]["name"])


def config_map(name: str, namespace: str) -> Object:
    return {"metadata": {"name": name, "namespace": namespace, "labels": {"test": "yes"}}}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("fault", ["kill", "stop"])
async def test_a_follower_goes_on_after_the_api_server(
    fault: str, control: Control, kubectl: Kubectl, cluster: LightkubeCluster, namespaces: tuple[str, str]
) -> None:
    namespace = namespaces[0]
    told: asyncio.Queue[Any] = asyncio.Queue()
    follower = Follower(cluster, CONFIG_MAPS, name_of, namespace=namespace, labels="test=yes")

    async def follow() -> None:
        async for change in follower.changes():
            told.put_nowait(change)

    await cluster.create(CONFIG_MAPS, made := config_map(f"before-{fault}", namespace))
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(follow())
        assert await told.get() == Snapshot([name_of(made)])
        await asyncio.to_thread(control, fault, API_SERVER)
        await until(lambda: follower.problem, GRACEFUL)
        before = follower.unconfirmed()
        with pytest.raises(ClusterUnavailable):
            await cluster.get(CONFIG_MAPS, "any", namespace)
        await until(lambda: follower.unconfirmed() > before + 2)
        await asyncio.to_thread(control, "start", API_SERVER)
        await until(lambda: asyncio.to_thread(answers, kubectl), GRACEFUL)
        await cluster.create(CONFIG_MAPS, config_map(f"after-{fault}", namespace))
        await cluster.delete(CONFIG_MAPS, name_of(made), namespace)
        async with asyncio.timeout(30):
            changes = [await told.get(), await told.get()]
        assert Changed(f"after-{fault}") in changes
        assert [change.name for change in changes if isinstance(change, Gone)] == [name_of(made)]
        await until(lambda: not follower.problem)
        assert follower.unconfirmed() < 30
        await cluster.delete(CONFIG_MAPS, f"after-{fault}", namespace)
        assert isinstance(await told.get(), Gone)
        task.cancel()


@pytest.mark.timeout(300)
async def test_an_api_server_that_was_restarted_does_not_know_old_changes(
    control: Control, kubectl: Kubectl, cluster: LightkubeCluster, namespaces: tuple[str, str]
) -> None:
    namespace = namespaces[0]
    old = (await cluster.create(CONFIG_MAPS, config_map("old", namespace)))["metadata"]["resourceVersion"]
    new = await cluster.patch(CONFIG_MAPS, "old", {"data": {"a": "1"}}, namespace)
    revision = {"revision": new["metadata"]["resourceVersion"], "physical": True}
    url = "http://127.0.0.1:2379/v3/kv/compaction"
    answer = await asyncio.to_thread(control, "enter", "curl", "--silent", url, "--data", json.dumps(revision))
    assert "error" not in answer
    await asyncio.to_thread(control, "kill", API_SERVER)
    await asyncio.to_thread(control, "start", API_SERVER)
    await until(lambda: asyncio.to_thread(answers, kubectl), GRACEFUL)
    with pytest.raises(Expired, match="too old resource version"):
        async for event in cluster.watch(CONFIG_MAPS, old, namespace):
            assert event.type == "OPENED"
    await cluster.delete(CONFIG_MAPS, "old", namespace)
