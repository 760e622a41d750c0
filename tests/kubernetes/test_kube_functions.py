"""The kind Function at a real API server: what kubectl says of good and bad objects, and shows of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from rescoldo.kube.client import LightkubeCluster, find_cluster
from rescoldo.kube.conditions import Condition, accepted, with_conditions
from rescoldo.kube.definition import definition
from rescoldo.kube.functions import FUNCTIONS, MAX_SPEC, from_object, to_object
from rescoldo.model.errors import InvalidInput, TooLarge
from rescoldo.model.function import MAX_SECRETS, FunctionSpec
from rescoldo.model.metadata import MAX_ENTRIES
from support.function_objects import REFUSED_BY_BOTH, REFUSED_BY_TYPE, REFUSED_LATER, deployments, function
from support.testcluster import KUBECONFIG, KubectlFailed, apply, kubectl


@pytest.fixture(scope="module", autouse=True)
def kind(node: bool) -> None:
    """The definition stays: to delete it would delete everybody's functions."""
    kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=definition())
    kubectl("wait", "--for=condition=Established", f"crd/{FUNCTIONS.name}", "--timeout=30s")


@pytest.fixture
def place(namespaces: tuple[str, str]) -> Iterator[str]:
    """A namespace without functions."""
    yield namespaces[0]
    kubectl("delete", "functions", "--all", "-n", namespaces[0])


def refusal(obj: object, *flags: str) -> str:
    with pytest.raises(KubectlFailed) as caught:
        kubectl("apply", "-f", "-", *flags, stdin=json.dumps(obj))
    return str(caught.value)


@pytest.mark.parametrize(("name", "spec"), REFUSED_BY_BOTH)
def test_kubectl_is_told_what_the_http_api_says(place: str, name: str, spec: dict[str, Any]) -> None:
    message = accepted(function(spec, name)).message
    assert message and message in refusal(function(spec, name, place))


@pytest.mark.parametrize(("spec", "message"), REFUSED_BY_TYPE)
def test_kubectl_is_told_what_the_schema_says(place: str, spec: dict[str, Any], message: str) -> None:
    assert message in refusal(function(spec, "a", place))


def test_a_dropped_field_is_at_least_a_warning(place: str) -> None:
    wrong = function({"image": "a", "imagee": "b"}, "a", place)
    told = refusal(wrong, "--validate=warn", "--warnings-as-errors")
    assert 'Warning: unknown field "spec.imagee"' in told
    assert json.loads(kubectl("get", "function", "a", "-n", place, "-o", "json"))["spec"] == {"image": "a"}


@pytest.mark.parametrize("spec", REFUSED_LATER)
async def test_what_the_schema_takes_and_the_checks_refuse_is_a_condition(
    api_server: LightkubeCluster, place: str, spec: dict[str, Any]
) -> None:
    made = await api_server.create(FUNCTIONS, function(spec, "a", place))
    condition = accepted(made)
    assert condition.holds is False
    status = with_conditions({}, [condition], made["metadata"]["generation"], 0.0)
    await api_server.patch(FUNCTIONS, "a", {"status": status}, place, subresource="status")
    told = kubectl("get", "function", "a", "-n", place, "-o", "jsonpath={.status.conditions[0].message}")
    assert told == condition.message


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(spec=deployments)
def test_an_api_server_loses_nothing_of_a_deployment(place: str, spec: FunctionSpec) -> None:
    async def round_trip() -> FunctionSpec:
        async with find_cluster(KUBECONFIG) as found:
            await found.apply(FUNCTIONS, to_object(placed), force=True)
            return from_object(await found.get(FUNCTIONS, placed.name, place))

    placed = replace(spec, namespace=place)
    assert asyncio.run(round_trip()) == placed


def many(length: int) -> dict[str, str]:
    """As many entries as a table may have, with keys of this length."""
    return {f"{number:04}".ljust(length, "k"): "" for number in range(MAX_ENTRIES)}


@pytest.mark.parametrize(
    "more",
    [
        {"env_vars": {"A": "x" * (MAX_SPEC - 2000)}},
        {"env_vars": many(1000)},
        {"labels": many(1000)},
        {"annotations": many(1000)},
        {"annotations": {f"rescoldo.dev-{key}": "" for key in many(900)}},
        {"env_vars": many(300), "labels": many(300), "annotations": many(300), "limits": many(100)},
        {"constraints": tuple(many(1000)), "secrets": tuple(f"{n:02}".ljust(253, "s") for n in range(MAX_SECRETS))},
    ],
)
async def test_the_largest_deployments_are_taken(
    api_server: LightkubeCluster, place: str, more: dict[str, Any]
) -> None:
    spec = FunctionSpec("a", "i" * 1000, place, **more)
    assert accepted(to_object(spec)).holds
    assert from_object(await api_server.apply(FUNCTIONS, to_object(spec))) == spec


@pytest.mark.parametrize("size", [2**20 + 2**19, 2**21 + 2**19, 2**22])
async def test_what_no_etcd_takes_is_too_large(api_server: LightkubeCluster, place: str, size: int) -> None:
    with pytest.raises(TooLarge):
        await api_server.apply(FUNCTIONS, function({"image": "a", "envVars": {"A": "x" * size}}, "a", place))


async def test_applying_a_deployment_again_removes_what_it_no_longer_has(
    api_server: LightkubeCluster, place: str
) -> None:
    full = FunctionSpec("a", "i:1", place, env_vars={"A": "1", "B": "2"}, secrets=("x", "y"), limits={"cpu": "1"})
    less = replace(full, env_vars={"B": "2"}, secrets=("y",), limits={})
    await api_server.apply(FUNCTIONS, to_object(full))
    assert from_object(await api_server.apply(FUNCTIONS, to_object(less))) == less


async def test_our_own_writes_are_strict(api_server: LightkubeCluster, place: str) -> None:
    with pytest.raises(InvalidInput, match="imagee"):
        await api_server.apply(FUNCTIONS, function({"image": "a", "imagee": "b"}, "a", place))


async def test_kubectl_shows_functions_as_a_user_thinks_of_them(
    api_server: LightkubeCluster, place: str
) -> None:
    made = await api_server.create(FUNCTIONS, function({"image": "hello:1"}, "hello", place))
    shown = {"kind": "python", "state": "asleep", "awake": 0, "calls": 42}
    status = with_conditions(shown, [Condition("Ready", True, "Asleep", "the next call wakes it")], 1, 0.0)
    waiting = asyncio.create_task(
        asyncio.to_thread(kubectl, "wait", "--for=condition=Ready", "fn/hello", "-n", place, "--timeout=20s")
    )
    await api_server.patch(FUNCTIONS, "hello", {"status": status}, place, subresource="status")
    assert "condition met" in (await waiting)
    head, line = kubectl("get", "functions", "-n", place).splitlines()
    assert head.split() == ["NAME", "KIND", "STATE", "AWAKE", "CALLS", "IMAGE", "AGE"]
    assert line.split()[:6] == ["hello", "python", "asleep", "0", "42", "hello:1"]
    wide = kubectl("get", "fn", "hello", "-n", place, "-o", "wide")
    assert "True" in wide and "the next call wakes it" in wide
    after = await api_server.get(FUNCTIONS, "hello", place)
    assert after["metadata"]["generation"] == made["metadata"]["generation"] == 1


def test_kubectl_explains_the_fields() -> None:
    told = kubectl("explain", "function.spec")
    for field in to_object(FunctionSpec("a", "i"))["spec"]:
        assert field in told
    assert "-required-" in told and "rescoldo.dev/concurrency" in told
    assert "Ready: calls are answered" in kubectl("explain", "function.status.conditions").replace("\n    ", " ")


def test_kubectl_shows_differences(place: str) -> None:
    apply(function({"image": "hello:1"}, "a", place))
    assert kubectl("diff", "-f", "-", stdin=json.dumps(function({"image": "hello:1"}, "a", place))) == ""
    with pytest.raises(KubectlFailed, match=r"\+  image: hello:2"):  # it ends with 1
        kubectl("diff", "-f", "-", stdin=json.dumps(function({"image": "hello:2"}, "a", place)))


def test_a_status_that_a_user_sends_is_ignored(place: str) -> None:
    apply({**function({"image": "hello:1"}, "a", place), "status": {"state": "ready"}})
    found = json.loads(kubectl("get", "function", "a", "-n", place, "-o", "json"))
    assert "state" not in found.get("status", {})  # an installation in this cluster may add conditions
