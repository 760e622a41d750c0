"""What the client is told when a right is missing, or a quota is used up; and a token as a pod has it."""

from __future__ import annotations

import base64
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from lightkube.config.kubeconfig import KubeConfig

from rescoldo.kube.client import LightkubeCluster, find_cluster
from rescoldo.kube.errors import Forbidden
from rescoldo.kube.protocol import Resource
from support.cluster_contract import CONFIG_MAPS
from support.patience import until
from support.testcluster import KUBECONFIG, kubectl

NODES = Resource("", "v1", "Node", "nodes", namespaced=False)


@pytest.fixture
async def servant(
    namespaces: tuple[str, str],
    tmp_path: Path,
) -> AsyncIterator[LightkubeCluster]:
    """A service account that may list and watch config maps of the first namespace, with a token in a file."""
    namespace = namespaces[0]
    rights = ["--verb=list,watch", "--resource=configmaps"]
    made = ("sa/servant", "role/reader", "rolebinding/reader", "-n", namespace)
    try:
        for command in (
            ["create", "serviceaccount", "servant"],
            ["create", "role", "reader", *rights],
            ["create", "rolebinding", "reader", "--role=reader", f"--serviceaccount={namespace}:servant"],
        ):
            kubectl(*command, "-n", namespace)
        token = tmp_path / "token"
        token.write_text(kubectl("create", "token", "servant", "-n", namespace))
        config = yaml.safe_load(KUBECONFIG.read_text())
        config["users"] = [{"name": user["name"], "user": {"tokenFile": str(token)}} for user in config["users"]]
        path = tmp_path / "config"
        path.write_text(yaml.safe_dump(config))
        async with find_cluster(path) as found:
            yield found
    finally:
        kubectl("delete", "--ignore-not-found", *made)


async def test_what_is_granted_works(servant: LightkubeCluster, namespaces: tuple[str, str]) -> None:
    assert [page async for page in servant.list(CONFIG_MAPS, namespaces[0])]


async def test_a_pod_finds_its_api_server(
    servant: LightkubeCluster, namespaces: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What kubelet gives each pod is in a folder of the test's own here; lightkube has the real one as a default."""
    (cluster,) = [one["cluster"] for one in yaml.safe_load(KUBECONFIG.read_text())["clusters"]]
    account, server = tmp_path / "serviceaccount", urlsplit(cluster["server"])
    account.mkdir()
    (account / "token").symlink_to(tmp_path / "token")
    (account / "namespace").write_text(namespaces[0])
    (account / "ca.crt").write_bytes(base64.b64decode(cluster["certificate-authority-data"]))
    monkeypatch.setattr(KubeConfig.from_env.__func__, "__defaults__", (str(account), "/nothing"))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", str(server.hostname))
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(server.port))
    async with find_cluster() as found:
        assert [page async for page in found.list(CONFIG_MAPS, namespaces[0])]


async def test_a_missing_right_is_named(servant: LightkubeCluster, namespaces: tuple[str, str]) -> None:
    namespace, other = namespaces
    with pytest.raises(Forbidden, match=f"a Role in namespace {namespace} has to grant verb 'get' on 'configmaps'"):
        await servant.get(CONFIG_MAPS, "kube-root-ca.crt", namespace)
    with pytest.raises(Forbidden, match=f"a Role in namespace {other} has to grant verb 'list' on 'configmaps'"):
        _ = [page async for page in servant.list(CONFIG_MAPS, other)]
    with pytest.raises(Forbidden, match="a ClusterRole has to grant verb 'watch' on 'configmaps'"):
        _ = [event async for event in servant.watch(CONFIG_MAPS, "1")]
    with pytest.raises(Forbidden, match="a ClusterRole has to grant verb 'get' on 'nodes' of API group ''"):
        await servant.get(NODES, "any")
    with pytest.raises(Forbidden, match="has to grant verb 'create' on 'configmaps'"):
        await servant.create(CONFIG_MAPS, {"metadata": {"name": "a", "namespace": namespace}})
    with pytest.raises(Forbidden, match="has to grant verb 'patch' on 'configmaps'"):
        await servant.apply(CONFIG_MAPS, {"metadata": {"name": "a", "namespace": namespace}})
    with pytest.raises(Forbidden, match="has to grant verb 'delete' on 'configmaps'"):
        await servant.delete(CONFIG_MAPS, "a", namespace)


async def test_a_token_that_is_no_longer_good_is_told_from_a_missing_right(
    servant: LightkubeCluster, namespaces: tuple[str, str], tmp_path: Path
) -> None:
    good = (tmp_path / "token").read_text()
    (tmp_path / "token").write_text("expired")
    with pytest.raises(Forbidden, match="does not accept our credentials"):
        _ = [page async for page in servant.list(CONFIG_MAPS, namespaces[0])]
    (tmp_path / "token").write_text(good)
    assert [page async for page in servant.list(CONFIG_MAPS, namespaces[0])]


async def test_a_quota_speaks_for_itself(
    api_server: LightkubeCluster, namespaces: tuple[str, str]
) -> None:
    namespace = namespaces[1]
    kubectl("create", "quota", "none", "--hard=count/configmaps=0", "-n", namespace)

    async def refused() -> bool:
        """A quota is enforced a moment after it was made."""
        about = {"name": f"c{uuid.uuid4().hex}", "namespace": namespace}
        try:
            await api_server.create(CONFIG_MAPS, {"metadata": about})
        except Forbidden as error:
            errors.append(error.message)
        return bool(errors)

    errors: list[str] = []
    await until(refused)
    assert f"in namespace {namespace}: " in errors[0] and "exceeded quota: none" in errors[0]
    assert errors[0].startswith("the Kubernetes API refuses to create configmaps c")
    kubectl("delete", "quota", "none", "-n", namespace)
