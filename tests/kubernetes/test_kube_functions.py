"""The kind Function at a real API server: what kubectl says of good and bad objects, and shows of them."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from rescoldo.kube.client import LightkubeCluster, find_cluster
from rescoldo.kube.conditions import Condition, accepted, with_conditions
from rescoldo.kube.definition import definition
from rescoldo.kube.functions import FUNCTIONS, from_object, to_object
from rescoldo.model.errors import InvalidInput
from rescoldo.model.function import FunctionSpec
from support.function_objects import REFUSED_BY_BOTH, REFUSED_BY_TYPE, REFUSED_LATER, deployments, function
from support.real_cluster import Kubectl


@pytest.fixture(scope="module", autouse=True)
def kind(kubectl: Kubectl) -> None:
    """The definition stays: to delete it would delete everybody's functions."""
    kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=definition())
    kubectl("wait", "--for=condition=Established", f"crd/{FUNCTIONS.name}", "--timeout=30s")


@pytest.fixture
def namespace(namespaces: tuple[str, str], kubectl: Kubectl) -> Any:
    yield namespaces[0]
    kubectl("delete", "functions", "--all", "-n", namespaces[0])


def refusal(kubectl: Kubectl, obj: object) -> str:
    done = kubectl("apply", "-f", "-", stdin=obj, check=False)
    assert done.returncode != 0, done.stdout
    return done.stderr


@pytest.mark.parametrize(("name", "spec"), REFUSED_BY_BOTH)
def test_kubectl_is_told_what_the_http_api_says(
    kubectl: Kubectl, namespace: str, name: str, spec: dict[str, Any]
) -> None:
    message = accepted(function(spec, name)).message
    assert message and message in refusal(kubectl, function(spec, name, namespace))


@pytest.mark.parametrize(("spec", "message"), REFUSED_BY_TYPE)
def test_kubectl_is_told_what_the_schema_says(
    kubectl: Kubectl, namespace: str, spec: dict[str, Any], message: str
) -> None:
    assert message in refusal(kubectl, function(spec, "a", namespace))


def test_a_dropped_field_is_at_least_a_warning(kubectl: Kubectl, namespace: str) -> None:
    wrong = function({"image": "a", "imagee": "b"}, "a", namespace)
    done = kubectl("apply", "-f", "-", "--validate=warn", stdin=wrong)
    assert 'Warning: unknown field "spec.imagee"' in done.stderr


@pytest.mark.parametrize("spec", REFUSED_LATER)
async def test_what_the_schema_takes_and_the_checks_refuse_is_a_condition(
    kubectl: Kubectl, cluster: LightkubeCluster, namespace: str, spec: dict[str, Any]
) -> None:
    made = await cluster.create(FUNCTIONS, function(spec, "a", namespace))
    condition = accepted(made)
    assert condition.holds is False
    status = with_conditions({}, [condition], made["metadata"]["generation"], 0.0)
    await cluster.patch(FUNCTIONS, "a", {"status": status}, namespace, subresource="status")
    told = kubectl("get", "function", "a", "-n", namespace, "-o", "jsonpath={.status.conditions[0].message}").stdout
    assert told == condition.message


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(spec=deployments)
def test_an_api_server_loses_nothing_of_a_deployment(
    kubectl: Kubectl, kubeconfig: Any, namespace: str, spec: FunctionSpec
) -> None:
    async def round_trip() -> FunctionSpec:
        async with find_cluster(kubeconfig) as cluster:
            await cluster.apply(FUNCTIONS, to_object(placed), force=True)
            return from_object(await cluster.get(FUNCTIONS, placed.name, namespace))

    placed = replace(spec, namespace=namespace)
    assert asyncio.run(round_trip()) == placed


async def test_applying_a_deployment_again_removes_what_it_no_longer_has(
    cluster: LightkubeCluster, namespace: str
) -> None:
    full = FunctionSpec("a", "i:1", namespace, env_vars={"A": "1", "B": "2"}, secrets=("x", "y"), limits={"cpu": "1"})
    less = replace(full, env_vars={"B": "2"}, secrets=("y",), limits={})
    await cluster.apply(FUNCTIONS, to_object(full))
    assert from_object(await cluster.apply(FUNCTIONS, to_object(less))) == less


async def test_our_own_writes_are_strict(cluster: LightkubeCluster, namespace: str) -> None:
    with pytest.raises(InvalidInput, match="imagee"):
        await cluster.apply(FUNCTIONS, function({"image": "a", "imagee": "b"}, "a", namespace))


async def test_kubectl_shows_functions_as_a_user_thinks_of_them(
    kubectl: Kubectl, cluster: LightkubeCluster, namespace: str
) -> None:
    made = await cluster.create(FUNCTIONS, function({"image": "hello:1"}, "hello", namespace))
    shown = {"kind": "python", "state": "asleep", "awake": 0, "calls": 42}
    status = with_conditions(shown, [Condition("Ready", True, "Asleep", "the next call wakes it")], 1, 0.0)
    waiting = asyncio.create_task(
        asyncio.to_thread(kubectl, "wait", "--for=condition=Ready", "fn/hello", "-n", namespace, "--timeout=20s")
    )
    await cluster.patch(FUNCTIONS, "hello", {"status": status}, namespace, subresource="status")
    assert "condition met" in (await waiting).stdout
    head, line = kubectl("get", "functions", "-n", namespace).stdout.splitlines()
    assert head.split() == ["NAME", "KIND", "STATE", "AWAKE", "CALLS", "IMAGE", "AGE"]
    assert line.split()[:6] == ["hello", "python", "asleep", "0", "42", "hello:1"]
    wide = kubectl("get", "fn", "hello", "-n", namespace, "-o", "wide").stdout
    assert "True" in wide and "the next call wakes it" in wide
    after = await cluster.get(FUNCTIONS, "hello", namespace)
    assert after["metadata"]["generation"] == made["metadata"]["generation"] == 1


def test_kubectl_explains_the_fields(kubectl: Kubectl) -> None:
    told = kubectl("explain", "function.spec").stdout
    for field in to_object(FunctionSpec("a", "i"))["spec"]:
        assert field in told
    assert "-required-" in told and "rescoldo.dev/concurrency" in told
    assert "Ready: calls are answered" in kubectl("explain", "function.status.conditions").stdout.replace("\n    ", " ")


def test_kubectl_shows_differences(kubectl: Kubectl, namespace: str) -> None:
    kubectl("apply", "-f", "-", stdin=function({"image": "hello:1"}, "a", namespace))
    same = kubectl("diff", "-f", "-", stdin=function({"image": "hello:1"}, "a", namespace), check=False)
    assert (same.returncode, same.stdout) == (0, "")
    other = kubectl("diff", "-f", "-", stdin=function({"image": "hello:2"}, "a", namespace), check=False)
    assert other.returncode == 1 and "+  image: hello:2" in other.stdout


def test_a_status_that_a_user_sends_is_ignored(kubectl: Kubectl, namespace: str) -> None:
    mine = {**function({"image": "hello:1"}, "a", namespace), "status": {"state": "ready"}}
    kubectl("apply", "-f", "-", stdin=mine)
    assert "status" not in json.loads(kubectl("get", "function", "a", "-n", namespace, "-o", "json").stdout)
