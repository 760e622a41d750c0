"""What the parts do, and why pods are not ready."""

from __future__ import annotations

from typing import Any

import pytest

from rescoldo.install.applying import Installation
from rescoldo.install.problems import PODS, problems_of
from rescoldo.install.status import parts_of
from rescoldo.install.values import Values
from support.ready_cluster import ReadyCluster, pod

LABELS = {"app.kubernetes.io/name": "rescoldo", "app.kubernetes.io/component": "worker"}


async def test_parts_are_shown_with_control_and_gateways_first() -> None:
    cluster = ReadyCluster()
    assert await parts_of(cluster, "rescoldo") == []
    await Installation(cluster, Values(image="rescoldo:1"), lambda line: None, 5.0).apply()
    parts = await parts_of(cluster, "rescoldo")
    found = [(part.component, part.namespace, part.ready, part.wanted, part.image) for part in parts]
    assert found == [
        ("control", "rescoldo", 1, 1, "rescoldo:1"),
        ("gateway", "rescoldo", 2, 2, "rescoldo:1"),
        ("worker", "openfaas-fn", 2, 2, "rescoldo:1"),
    ]
    assert all(part.is_ready for part in parts)


async def test_a_part_that_is_not_ready_says_why() -> None:
    cluster = ReadyCluster()
    cluster.stuck = {"rescoldo-gateway"}
    installation = Installation(cluster, Values(image="rescoldo:1"), lambda line: None, 0.0)
    with pytest.raises(Exception, match="no pod exists in rescoldo"):
        await installation.apply()
    gateway = next(part for part in await parts_of(cluster, "rescoldo") if part.component == "gateway")
    assert (gateway.is_ready, gateway.ready) == (False, 0)
    assert gateway.problems == ("no pod exists in rescoldo; see: kubectl get events -n rescoldo",)


def container(**state: Any) -> list[dict[str, Any]]:
    last = state.pop("last", None)
    status = {"name": "worker", "state": state, "ready": False}
    return [status | ({"lastState": {"terminated": last}} if last else {})]


@pytest.mark.parametrize(
    "status, told",
    [
        (
            {"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes: Insufficient cpu"}]},
            "pod w-1: not scheduled: 0/1 nodes: Insufficient cpu",
        ),
        (
            {"containerStatuses": container(waiting={"reason": "ContainerCreating"})},
            "pod w-1, container worker: its volumes or secrets are not there yet",
        ),
        (
            {
                "containerStatuses": container(
                    waiting={"reason": "CrashLoopBackOff"}, last={"exitCode": 2, "reason": "Error"}
                )
            },
            "pod w-1, container worker: CrashLoopBackOff: ended with status 2 (Error)",
        ),
        (
            {"containerStatuses": container(terminated={"exitCode": 137, "reason": "OOMKilled"})},
            "pod w-1, container worker: ended with status 137 (OOMKilled)",
        ),
        (
            {"containerStatuses": container(running={})},
            "pod w-1, container worker: runs and is not ready",
        ),
        ({"message": "The node was low on resource"}, "pod w-1: The node was low on resource"),
    ],
)
async def test_a_pod_says_what_keeps_it_from_being_ready(status: dict[str, Any], told: str) -> None:
    cluster = ReadyCluster()
    await cluster.add(PODS, namespace="openfaas-fn", **pod("w-1", "worker", **status))
    assert await problems_of(cluster, "openfaas-fn", LABELS) == [told]


async def test_a_pod_that_is_ready_says_nothing() -> None:
    cluster = ReadyCluster()
    ready = {"name": "worker", "state": {"running": {}}, "ready": True}
    await cluster.add(PODS, namespace="openfaas-fn", **pod("w-1", "worker", containerStatuses=[ready]))
    assert await problems_of(cluster, "openfaas-fn", LABELS) == []
