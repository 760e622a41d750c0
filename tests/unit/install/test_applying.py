"""An installation is applied in its order, waited for, upgraded by doing it again, and cleaned of what is no longer
wanted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rescoldo.install.applying import (
    CHANGED,
    CREATED,
    KEPT,
    REMOVED,
    UNCHANGED,
    Installation,
    NotRolledOut,
    is_rolled_out,
)
from rescoldo.install.kinds import DEPLOYMENTS, INGRESSES, NAMESPACES
from rescoldo.install.problems import PODS
from rescoldo.install.reading import set_values
from rescoldo.install.values import Values
from support.ready_cluster import ReadyCluster, pod

VALUES = Values(image="rescoldo:1")


async def install(cluster: ReadyCluster, values: Values = VALUES, seconds: float = 60.0) -> dict[str, str]:
    """Install, and return the state of each object."""
    installation = Installation(cluster, values, lambda line: None, seconds)
    await installation.apply()
    return {each.object: each.state for each in installation.applied}


async def test_the_definition_comes_first_then_control_workers_and_gateways() -> None:
    cluster = ReadyCluster()
    states = await install(cluster)
    assert set(states.values()) == {CREATED}
    order = [
        "CustomResourceDefinition functions.rescoldo.dev",
        "ClusterRole rescoldo:rescoldo:control",
        "Deployment rescoldo-control",
        "Deployment rescoldo-worker",
        "Deployment rescoldo-gateway",
    ]
    assert [each for each in cluster.order if each in order] == order


async def test_doing_it_again_changes_nothing() -> None:
    cluster = ReadyCluster()
    await install(cluster)
    assert set((await install(cluster)).values()) == {UNCHANGED}


async def test_an_upgrade_changes_what_differs() -> None:
    cluster = ReadyCluster()
    await install(cluster)
    states = await install(cluster, replace(VALUES, image="rescoldo:2"))
    changed = {name for name, state in states.items() if state == CHANGED}
    assert changed == {
        "deployment rescoldo/rescoldo-control",
        "deployment openfaas-fn/rescoldo-worker",
        "deployment rescoldo/rescoldo-gateway",
        "podtemplate openfaas-fn/rescoldo-build",
    }


@pytest.mark.looptime
async def test_the_next_part_waits_for_the_one_before() -> None:
    cluster = ReadyCluster()
    cluster.stuck = {"rescoldo-control"}
    waiting = {"reason": "ErrImageNeverPull"}
    status = {"name": "control", "state": {"waiting": waiting}}
    await cluster.add(PODS, namespace="rescoldo", **pod("c-1", "control", containerStatuses=[status]))
    with pytest.raises(NotRolledOut) as found:
        await install(cluster)
    assert found.value.message == (
        "deployment rescoldo/rescoldo-control is not rolled out after 60 s\n"
        "  pod c-1, container control: ErrImageNeverPull: the node does not have the image: load it with "
        "`rescoldo kubernetes image --load`"
    )
    assert "Deployment rescoldo-worker" not in cluster.order


async def test_what_the_values_no_longer_have_is_removed() -> None:
    cluster = ReadyCluster()
    await install(cluster, set_values(VALUES, ["functionNamespaces=[openfaas-fn, blue]", "gateway.ingress.host=a.b"]))
    assert await cluster.names(INGRESSES) == ["rescoldo-gateway"]
    states = await install(cluster)
    removed = {name for name, state in states.items() if state == REMOVED}
    assert {"deployment blue/rescoldo-worker", "ingress rescoldo/rescoldo-gateway"} <= removed
    assert await cluster.names(INGRESSES) == []
    assert await cluster.names(DEPLOYMENTS, "blue") == []
    assert "blue" in await cluster.names(NAMESPACES)  # it may have functions


async def test_objects_of_others_and_of_other_installations_stay() -> None:
    cluster = ReadyCluster()
    await install(cluster, replace(VALUES, namespace="other"))
    await cluster.add(DEPLOYMENTS, "somebody", "rescoldo", spec={"replicas": 1})
    await install(cluster)
    assert await cluster.names(DEPLOYMENTS, "other") == ["rescoldo-control", "rescoldo-gateway"]
    assert "somebody" in await cluster.names(DEPLOYMENTS, "rescoldo")


async def test_a_namespace_that_somebody_made_keeps_its_rules() -> None:
    cluster = ReadyCluster()
    await cluster.add(NAMESPACES, "openfaas-fn", metadata={"labels": {"team": "a"}})
    assert (await install(cluster))["namespace openfaas-fn"] == KEPT
    assert (await cluster.get(NAMESPACES, "openfaas-fn"))["metadata"]["labels"] == {"team": "a"}


async def test_a_preview_changes_nothing() -> None:
    cluster = ReadyCluster()
    found = await Installation(cluster, VALUES, lambda line: None, 1.0).preview()
    assert {each.state for each in found} == {"would be created"}
    assert {asked.verb for asked in cluster.requests} == {"get"}


@pytest.mark.parametrize(
    "status, expected",
    [
        ({}, False),
        ({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}, True),
        ({"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}, False),
        ({"observedGeneration": 2, "replicas": 3, "updatedReplicas": 2, "availableReplicas": 3}, False),
        ({"observedGeneration": 2, "replicas": 3, "updatedReplicas": 2, "availableReplicas": 2}, False),
        ({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 1}, False),
    ],
)
def test_a_roll_out_is_over_when_all_pods_are_new_and_available(status: dict[str, int], expected: bool) -> None:
    assert is_rolled_out({"metadata": {"generation": 2}, "spec": {"replicas": 2}, "status": status}) == expected
