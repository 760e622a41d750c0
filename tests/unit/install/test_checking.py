"""What a cluster lacks is said plainly, before anything is changed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rescoldo.install.checking import CLASSES, DAEMONS, VOLUMES, Check, Verdict, check_cluster
from rescoldo.install.kinds import DEPLOYMENTS
from rescoldo.install.reading import set_values
from rescoldo.install.values import Values
from support.ready_cluster import ReadyCluster

VALUES = Values(image="rescoldo:1")
DEFAULT = {"annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}


async def check(cluster: ReadyCluster, values: Values = VALUES) -> dict[str, Check]:
    return {each.name: each for each in await check_cluster(cluster, values)}


@pytest.fixture
async def cluster() -> ReadyCluster:
    """A cluster that has all."""
    found = ReadyCluster()
    await found.add(CLASSES, "fast", metadata=DEFAULT)
    await found.add(DAEMONS, "cilium", "kube-system")
    return found


async def test_a_cluster_that_has_all_is_fine_and_stays_as_it_is(cluster: ReadyCluster) -> None:
    since = len(cluster.requests)
    found = await check(cluster)
    assert {each.verdict for each in found.values()} == {Verdict.OK}
    assert found["storage"].text == "storage class fast"
    assert found["network"].text == "cilium enforces NetworkPolicies"
    changes = {asked.resource.kind for asked in cluster.requests[since:] if asked.verb not in ("get", "list")}
    assert changes == {"SelfSubjectAccessReview"}


@pytest.mark.parametrize(
    "version, verdict",
    [
        ("v1.29.9", Verdict.FAILED),
        ("v1.30.0", Verdict.OK),
        ("v1.33.1+k3s1", Verdict.OK),
        ("v2.0.0", Verdict.OK),
        ("v0.99.0", Verdict.FAILED),
        ("something", Verdict.OK),
    ],
)
async def test_the_version_is_compared(cluster: ReadyCluster, version: str, verdict: Verdict) -> None:
    cluster.git_version = version
    found = (await check(cluster))["version"]
    assert (found.verdict, version in found.text) == (verdict, True)


async def test_an_api_that_does_not_answer_ends_the_checks() -> None:
    cluster = ReadyCluster()
    cluster.go_away()
    found = await check(cluster)
    assert list(found) == ["API"] and found["API"].verdict == Verdict.FAILED


async def test_missing_rights_are_named(cluster: ReadyCluster) -> None:
    cluster.forbidden = {"patch"}
    found = (await check(cluster))["rights"]
    assert found.verdict == Verdict.FAILED
    assert found.text.startswith("your credentials may not patch customresourcedefinitions.apiextensions.k8s.io, ")
    assert " and 1" in found.text and found.text.endswith(" more")


async def test_what_may_not_be_looked_at_is_no_failure(cluster: ReadyCluster) -> None:
    cluster.forbidden = {"list"}
    found = await check(cluster)
    assert (found["storage"].verdict, found["network"].verdict) == (Verdict.WARNING, Verdict.WARNING)
    assert found["storage"].text.startswith("not known: not allowed to list")


async def test_an_earlier_installation_is_an_upgrade_but_one_of_helm_is_helms(cluster: ReadyCluster) -> None:
    await cluster.add(DEPLOYMENTS, "rescoldo-control", "rescoldo")
    assert (await check(cluster))["earlier installation"].text == "one in rescoldo: this is an upgrade"
    note = {"meta.helm.sh/release-name": "faas"}
    await cluster.patch(DEPLOYMENTS, "rescoldo-control", {"metadata": {"annotations": note}}, "rescoldo")
    found = (await check(cluster))["earlier installation"]
    assert found.verdict == Verdict.FAILED and "release faas" in found.text


async def test_storage_has_to_be_there_or_unwanted() -> None:
    cluster = ReadyCluster()
    missing = (await check(cluster))["storage"]
    assert missing.verdict == Verdict.FAILED and "it has none at all" in missing.text
    await cluster.add(CLASSES, "slow")
    named = (await check(cluster))["storage"]
    assert named.verdict == Verdict.FAILED and "it has slow: name one with --storage-class" in named.text
    assert (await check(cluster, set_values(VALUES, ["control.storage.className=slow"])))["storage"].verdict == "ok"
    other = await check(cluster, set_values(VALUES, ["control.storage.className=fast"]))
    assert "has no storage class 'fast'" in other["storage"].text
    without = await check(cluster, set_values(VALUES, ["control.storage.persistent=false"]))
    assert without["storage"].verdict == Verdict.WARNING


@pytest.mark.parametrize(
    "spec, phase, verdict",
    [
        ({}, "Available", Verdict.OK),
        ({"claimRef": {"name": "rescoldo-control"}}, "Bound", Verdict.OK),
        ({"claimRef": {"name": "another"}}, "Bound", Verdict.FAILED),
        ({"storageClassName": "fast"}, "Available", Verdict.FAILED),
    ],
)
async def test_a_volume_that_somebody_made_by_hand_will_do(
    spec: dict[str, object], phase: str, verdict: Verdict
) -> None:
    cluster = ReadyCluster()
    await cluster.add(VOLUMES, "disk", spec=spec, status={"phase": phase})
    assert (await check(cluster))["storage"].verdict == verdict


@pytest.mark.parametrize(
    "daemon, verdict, told",
    [
        ("calico-node", Verdict.OK, "calico-node enforces"),
        ("kube-flannel-ds", Verdict.WARNING, "kube-flannel-ds does not enforce"),
        ("something", Verdict.WARNING, "not known"),
    ],
)
async def test_the_network_is_known_by_its_daemons(daemon: str, verdict: Verdict, told: str) -> None:
    cluster = ReadyCluster()
    await cluster.add(DAEMONS, daemon, "kube-system")
    found = (await check(cluster))["network"]
    assert (found.verdict, told in found.text) == (verdict, True)


async def test_k3s_enforces_policies_without_a_daemon(cluster: ReadyCluster) -> None:
    await cluster.delete(DAEMONS, "cilium", "kube-system")
    cluster.git_version = "v1.33.1+k3s1"
    assert (await check(cluster))["network"].verdict == Verdict.OK
    off = replace(VALUES, network_policies=replace(VALUES.network_policies, enabled=False))
    assert (await check(cluster, off))["network"].text == "no NetworkPolicies wanted"
