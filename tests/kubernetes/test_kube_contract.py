"""A real API server keeps the contract of tests/support/cluster_contract.py."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from rescoldo.kube.client import find_cluster
from support.cluster_contract import *  # noqa: F403  the tests
from support.cluster_contract import THINGS, World
from support.testcluster import KUBECONFIG, apply, kubectl

ANYTHING = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
DEFINITION: dict[str, Any] = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": THINGS.name},
    "spec": {
        "group": THINGS.group,
        "scope": "Namespaced",
        "names": {"kind": THINGS.kind, "plural": THINGS.plural},
        "versions": [
            {
                "name": THINGS.version,
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {
                    "openAPIV3Schema": {"type": "object", "properties": {"spec": ANYTHING, "status": ANYTHING}}
                },
            }
        ],
    },
}


@pytest.fixture(scope="module")
def things(node: bool) -> Iterator[None]:
    apply(DEFINITION)
    kubectl("wait", "--for=condition=Established", f"crd/{THINGS.name}", "--timeout=30s")
    yield
    kubectl("delete", "crd", THINGS.name)


@pytest.fixture
async def world(things: None, namespaces: tuple[str, str]) -> AsyncIterator[World]:
    async with find_cluster(KUBECONFIG, page=3, watch_seconds=4) as found:
        yield World(found, *namespaces)
    for namespace in namespaces:
        kubectl("delete", THINGS.name, "--all", "-n", namespace)
