"""The cluster of these tests: that of $RESCOLDO_TEST_KUBECONFIG, or the one that `cluster up` started on this machine.

Without either, every test here is skipped and says so.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from rescoldo.kube.client import LightkubeCluster, find_cluster
from support.real_cluster import Kubectl, kubeconfig_path


@pytest.fixture(scope="session")
def kubeconfig() -> Path:
    path = kubeconfig_path()
    if not path.exists():
        pytest.skip(f"no Kubernetes cluster: {path} does not exist")
    return path


@pytest.fixture(scope="session")
def kubectl(kubeconfig: Path) -> Kubectl:
    found = Kubectl(kubeconfig)
    if found("get", "--raw", "/readyz", check=False).returncode != 0:
        pytest.skip("no Kubernetes cluster: the API server does not answer")
    return found


@pytest.fixture(scope="module")
def namespaces(kubectl: Kubectl) -> Iterator[tuple[str, str]]:
    """Two namespaces for the tests of a module."""
    names = tuple(f"kube-{uuid.uuid4().hex[:8]}" for _ in range(2))
    for name in names:
        kubectl("create", "namespace", name)
    yield names[0], names[1]
    kubectl("delete", "namespace", *names, "--wait=false")


@pytest.fixture
async def cluster(kubectl: Kubectl, kubeconfig: Path) -> AsyncIterator[LightkubeCluster]:
    async with find_cluster(kubeconfig) as found:
        yield found
