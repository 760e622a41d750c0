"""The fake of a cluster keeps the contract; tests/kubernetes/test_kube_contract.py asks a real one."""

from __future__ import annotations

import pytest

from rescoldo.kube.fake import FakeCluster
from support.cluster_contract import *  # noqa: F403  the tests
from support.cluster_contract import World

pytestmark = pytest.mark.looptime


@pytest.fixture
def world() -> World:
    return World(FakeCluster(page=3, watch_seconds=4), "blue", "red")
