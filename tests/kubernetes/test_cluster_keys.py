"""Keys and certificates of a cluster's parts in a real Kubernetes: made, repaired, with the rights of a Role."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml

from rescoldo.cluster.identities import Identities
from rescoldo.kube.client import LightkubeCluster, find_cluster
from support.patience import until
from support.testcluster import KUBECONFIG, KubectlFailed, kubectl

pytestmark = pytest.mark.slow

VERBS = "get,list,watch,create,update,patch,delete"  # what the manifests give control


def data(name: str, namespace: str) -> dict[str, str]:
    """A Secret's values as they are stored; empty for a Secret that is missing."""
    try:
        return dict(json.loads(kubectl("get", "secret", name, "-n", namespace, "-o", "json"))["data"])
    except KubectlFailed:
        return {}


@pytest.fixture
async def control(namespaces: tuple[str, str], tmp_path: Path) -> AsyncIterator[LightkubeCluster]:
    """The API server, asked with the rights that control has in two namespaces."""
    system, token = namespaces[0], tmp_path / "token"
    kubectl("create", "serviceaccount", "control", "-n", system)
    for namespace in namespaces:
        kubectl("create", "role", "secrets", f"--verb={VERBS}", "--resource=secrets", "-n", namespace)
        account = f"--serviceaccount={system}:control"
        kubectl("create", "rolebinding", "secrets", "--role=secrets", account, "-n", namespace)
    token.write_text(kubectl("create", "token", "control", "-n", system))
    config = yaml.safe_load(KUBECONFIG.read_text())
    config["users"] = [{"name": user["name"], "user": {"tokenFile": str(token)}} for user in config["users"]]
    (tmp_path / "config").write_text(yaml.safe_dump(config))
    async with find_cluster(tmp_path / "config") as found:
        yield found


async def test_all_of_it_is_made_and_repaired_and_a_namespace_without_rights_is_a_problem(
    control: LightkubeCluster, namespaces: tuple[str, str], tmp_path: Path
) -> None:
    system, functions = namespaces
    identities = Identities(control, system, [functions, "elsewhere"], tmp_path / "own")
    await identities.prepare()
    (problem,) = identities.problems
    assert "a Role in namespace elsewhere has to grant verb 'get' on 'secrets'" in problem
    assert set(data("rescoldo-pools", system)) == {functions, "elsewhere"}
    keys, login = data("rescoldo-identity", functions), data("rescoldo-login", system)
    assert set(keys) == {"ca.crt", "pool-secret", "tls.crt", "tls.key"}

    running = asyncio.create_task(identities.run())
    kubectl("delete", "secret", "rescoldo-login", "-n", system)
    kubectl("delete", "secret", "rescoldo-identity", "-n", functions)
    await until(lambda: data("rescoldo-login", system) == login)
    await until(lambda: data("rescoldo-identity", functions).get("pool-secret") == keys["pool-secret"])
    assert data("rescoldo-identity", functions)["ca.crt"] == keys["ca.crt"]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_namespace_that_does_not_exist_is_a_problem(
    api_server: LightkubeCluster, namespaces: tuple[str, str], tmp_path: Path
) -> None:
    identities = Identities(api_server, namespaces[0], ["does-not-exist"], tmp_path / "own")
    await identities.prepare()
    (problem,) = identities.problems
    assert problem == "namespace does-not-exist does not exist: create it with kubectl create namespace does-not-exist"
