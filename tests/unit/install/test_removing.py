"""An uninstallation removes all that is ours, and nothing else."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from rescoldo.install.applying import Installation
from rescoldo.install.kinds import CLAIMS, CONFIG_MAPS, DEFINITIONS, DEPLOYMENTS, KINDS, NAMESPACES, SECRETS
from rescoldo.install.problems import PODS
from rescoldo.install.removing import Keeping, Plan, Removal, StillThere
from rescoldo.install.values import Values
from rescoldo.kube.functions import FUNCTIONS
from support.ready_cluster import ReadyCluster, pod

MADE = {"app.kubernetes.io/managed-by": "rescoldo", "app.kubernetes.io/part-of": "rescoldo"}
OF_FUNCTION = {"rescoldo.dev/secret": "true", "app.kubernetes.io/created-by": "rescoldo"}


async def installed(**more: Any) -> ReadyCluster:
    """A cluster with an installation, a function, and the secrets that control makes."""
    cluster = ReadyCluster()
    await Installation(cluster, Values(image="rescoldo:1", **more), lambda line: None, 5.0).apply()
    await cluster.add(SECRETS, "rescoldo-login", "rescoldo", metadata={"labels": MADE})
    await cluster.add(SECRETS, "rescoldo-identity", "openfaas-fn", metadata={"labels": MADE})
    await cluster.add(SECRETS, "word", "openfaas-fn", metadata={"labels": OF_FUNCTION})
    await cluster.add(FUNCTIONS, "hello", "openfaas-fn", metadata={"finalizers": ["rescoldo.dev/functions"]})
    return cluster


async def remove(cluster: ReadyCluster, **keep: bool) -> Plan:
    removal = Removal(cluster, "rescoldo", Keeping(**keep), lambda line: None, 5.0)
    plan = await removal.plan()
    await removal.run(plan)
    return plan


async def everything(cluster: ReadyCluster) -> list[str]:
    kinds = (*KINDS, SECRETS, FUNCTIONS, CONFIG_MAPS)
    return [f"{kind.kind} {name}" for kind in kinds for name in await cluster.names(kind)]


async def test_nothing_is_left() -> None:
    cluster = await installed()
    plan = await remove(cluster)
    assert plan.kept == []
    assert await everything(cluster) == []


async def test_a_plan_changes_nothing() -> None:
    cluster = await installed()
    before, since = await everything(cluster), len(cluster.requests)
    plan = await Removal(cluster, "rescoldo", Keeping(), lambda line: None, 5.0).plan()
    assert {asked.verb for asked in cluster.requests[since:]} == {"get", "list"}
    assert await everything(cluster) == before
    assert len(plan.deleted) == len(before)


async def test_control_goes_first_since_it_would_make_its_secrets_anew() -> None:
    cluster = await installed()
    since = len(cluster.requests)
    await remove(cluster)
    deleted = [asked.name for asked in cluster.requests[since:] if asked.verb == "delete"]
    assert deleted[0] == "rescoldo-control"
    assert deleted.index("rescoldo-login") > deleted.index("rescoldo-worker")


@pytest.mark.looptime
async def test_the_rest_waits_for_the_end_of_control() -> None:
    cluster = await installed()
    await cluster.add(PODS, namespace="rescoldo", **pod("c-1", "control"))
    with pytest.raises(StillThere, match="the end of control"):
        await remove(cluster)
    assert await cluster.names(SECRETS) == ["rescoldo-identity", "word", "rescoldo-login"]


@pytest.mark.looptime
async def test_it_ends_when_all_pods_have_finished_their_calls() -> None:
    cluster = await installed()
    about = {"labels": {"rescoldo.dev/install": "rescoldo"}, "finalizers": ["kubelet"]}
    await cluster.add(PODS, "g-1", "rescoldo", metadata=about)
    removing = asyncio.create_task(remove(cluster))
    await asyncio.sleep(3.0)  # virtual
    assert not removing.done()
    await cluster.delete(PODS, "g-1", "rescoldo")
    await cluster.patch(PODS, "g-1", {"metadata": {"finalizers": None}}, "rescoldo")
    await removing


async def test_functions_stay_with_all_they_need_if_wanted_and_no_finalizer_blocks_them() -> None:
    cluster = await installed()
    await cluster.patch(FUNCTIONS, "hello", {"metadata": {"finalizers": ["rescoldo.dev/functions", "a.b/c"]}},
                        "openfaas-fn")  # fmt: skip
    plan = await remove(cluster, functions=True)
    left = await everything(cluster)
    assert left == [
        "CustomResourceDefinition functions.rescoldo.dev",
        "Namespace openfaas-fn",
        "Secret word",
        "Function hello",
    ]
    assert (await cluster.get(FUNCTIONS, "hello", "openfaas-fn"))["metadata"]["finalizers"] == ["a.b/c"]
    assert len(plan.kept) == 4


async def test_kept_functions_go_with_the_next_removal() -> None:
    cluster = await installed()
    await remove(cluster, functions=True)
    await remove(cluster)
    assert await everything(cluster) == []


async def test_the_volume_stays_if_wanted() -> None:
    cluster = await installed()
    await remove(cluster, data=True)
    assert await everything(cluster) == ["PersistentVolumeClaim rescoldo-control", "Namespace rescoldo"]
    assert await cluster.names(CLAIMS, "rescoldo") == ["rescoldo-control"]


async def test_a_namespace_that_somebody_else_uses_stays_with_what_is_theirs() -> None:
    cluster = await installed()
    await cluster.add(CONFIG_MAPS, "kube-root-ca.crt", "openfaas-fn")
    await cluster.add(CONFIG_MAPS, "settings", "openfaas-fn")
    await cluster.add(SECRETS, "theirs", "openfaas-fn", metadata={"labels": {"rescoldo.dev/secret": "true"}})
    plan = await remove(cluster)
    assert plan.kept == ["namespace openfaas-fn: configmap openfaas-fn/settings is somebody else's"]
    assert await cluster.names(SECRETS) == ["theirs"]
    assert await cluster.names(NAMESPACES) == ["openfaas-fn"]


async def test_a_namespace_that_was_there_before_stays() -> None:
    cluster = ReadyCluster()
    await cluster.add(NAMESPACES, "openfaas-fn")
    await Installation(cluster, Values(image="rescoldo:1"), lambda line: None, 5.0).apply()
    await cluster.add(FUNCTIONS, "hello", "openfaas-fn")
    await remove(cluster)
    assert await everything(cluster) == ["Namespace openfaas-fn"]


async def test_another_installation_keeps_the_definition_and_its_functions() -> None:
    cluster = await installed()
    other = Values(image="rescoldo:1", namespace="second", function_namespaces=("openfaas-fn", "blue"))
    await Installation(cluster, other, lambda line: None, 5.0).apply()
    await cluster.add(FUNCTIONS, "theirs", "blue")
    plan = await remove(cluster)
    assert any(line.startswith("customresourcedefinition functions.rescoldo.dev: ") for line in plan.kept)
    assert await cluster.names(DEFINITIONS) == ["functions.rescoldo.dev"]
    assert await cluster.names(FUNCTIONS) == ["theirs"]
    assert await cluster.names(DEPLOYMENTS, "second") == ["rescoldo-control", "rescoldo-gateway"]


async def test_nothing_to_remove_is_no_error() -> None:
    plan = await remove(ReadyCluster())
    assert plan.deleted == []
