"""The real cluster for all tests: brought up by the first of them, unless one is up, and then taken down at the end."""

from __future__ import annotations

import itertools
import os
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Any

import pytest

from rescoldo.kube.client import LightkubeCluster, find_cluster
from support.faults import restore_api_server
from support.installed import Installed
from support.leftovers import pytest_sessionfinish, pytest_sessionstart  # noqa: F401  hooks
from support.testcluster import KUBECONFIG, KubectlFailed, apply, cluster, is_up, kubectl, load_image
from support.witness import Witness

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def node() -> Iterator[bool]:
    """A running cluster; whether these tests have it for themselves."""
    was_up = is_up()
    if not was_up:
        cluster("up")
    try:
        yield not was_up
    finally:
        if not was_up:
            cluster("down")


@pytest.fixture
def faults(node: bool) -> Iterator[None]:
    """Faults of the node and its API server may be made; afterwards the API server runs."""
    if not node and not os.environ.get("RESCOLDO_TEST_FAULTS"):
        pytest.skip("the cluster was up, and may be somebody's: RESCOLDO_TEST_FAULTS=1 allows faults of its API server")
    yield
    restore_api_server()


@pytest.fixture(scope="session")
def image(node: None) -> dict[str, Any]:
    """The image of this checkout, at the node, and what the verb says about it."""
    return load_image()


@pytest.fixture(scope="module")
def namespace(image: None) -> Iterator[str]:
    """A namespace whose pods must be as Pod Security "restricted" wants them."""
    yield from made("restricted")


@pytest.fixture(scope="module")
def privileged_namespace(image: None) -> Iterator[str]:
    """A namespace whose pods may be as they like."""
    yield from made("privileged")


def made(level: str) -> Iterator[str]:
    name = f"test-{level}-{next(_numbers)}"
    with suppress(KubectlFailed):  # left by an earlier run on a cluster that stayed up
        kubectl("delete", "namespace", name, "--ignore-not-found", "--wait=true")
    labels = {"pod-security.kubernetes.io/enforce": level}
    apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    try:
        yield name
    finally:
        kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="session")
def installed(image: None) -> Iterator[Installed]:
    """An installation with two workers and two gateways."""
    found = Installed()
    found.install()
    yield found
    found.verb("uninstall", "--yes")
    found.close()


@pytest.fixture(scope="module")
def witness(installed: Installed) -> Iterator[Witness]:
    """Whom functions of the installation tell what they do."""
    with Witness() as found:
        yield found


@pytest.fixture(scope="module")
def namespaces(node: bool) -> Iterator[tuple[str, str]]:
    """Two namespaces for the tests of a module."""
    names = tuple(f"kube-{uuid.uuid4().hex[:8]}" for _ in range(2))
    for name in names:
        kubectl("create", "namespace", name)
    yield names[0], names[1]
    kubectl("delete", "namespace", *names, "--wait=false")


@pytest.fixture
async def api_server(node: bool) -> AsyncIterator[LightkubeCluster]:
    """The API server, asked by our own client."""
    async with find_cluster(KUBECONFIG) as found:
        yield found
