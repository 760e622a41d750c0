"""Functions as objects: no field is lost, the kind's definition says what model/ says, and conditions tell the rest."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from typing import Any

import pytest
import yaml
from hypothesis import given

from rescoldo.kinds.deployment import check_spec
from rescoldo.kube.conditions import Condition, accepted, with_conditions
from rescoldo.kube.definition import definition
from rescoldo.kube.functions import FUNCTIONS, from_object, to_object
from rescoldo.model.errors import InvalidInput, TooLarge
from rescoldo.model.function import ANNOTATIONS, FunctionSpec, spec_to_json
from rescoldo.model.limits import OURS
from rescoldo.model.text import is_plain
from support.function_objects import REFUSED_BY_BOTH, REFUSED_LATER, deployments, function

FULL = FunctionSpec(
    name="hello",
    image="hello:1",
    namespace="blue",
    env_process="python index.py",
    env_vars={"A": "1"},
    labels={"com.openfaas.scale.max": "3"},
    annotations={"rescoldo.dev/concurrency": "2"},
    constraints=("zone=a",),
    secrets=("key", "other.key"),
    limits={"memory": "64Mi"},
    requests={"cpu": "100m"},
    read_only_root_filesystem=True,
)


@pytest.fixture(scope="module")
def kind() -> dict[str, Any]:
    return yaml.safe_load(definition())


def schema(kind: dict[str, Any]) -> dict[str, Any]:
    (version,) = kind["spec"]["versions"]
    return version["schema"]["openAPIV3Schema"]


@pytest.mark.slow
@given(deployments)
def test_a_deployment_is_the_same_after_a_round_trip(spec: FunctionSpec) -> None:
    assert from_object(json.loads(json.dumps(to_object(spec)))) == spec


def test_a_deployment_with_all_fields_is_an_object_with_all_of_openfaas_names() -> None:
    assert all(getattr(FULL, field.name) for field in fields(FULL)), "the example has every field"
    assert to_object(FULL) == {
        "apiVersion": "rescoldo.dev/v1",
        "kind": "Function",
        "metadata": {"name": "hello", "namespace": "blue"},
        "spec": {
            "image": "hello:1",
            "envProcess": "python index.py",
            "envVars": {"A": "1"},
            "labels": {"com.openfaas.scale.max": "3"},
            "annotations": {"rescoldo.dev/concurrency": "2"},
            "constraints": ["zone=a"],
            "secrets": ["key", "other.key"],
            "limits": {"memory": "64Mi"},
            "requests": {"cpu": "100m"},
            "readOnlyRootFilesystem": True,
        },
    }


def test_empty_fields_are_left_out() -> None:
    assert to_object(FunctionSpec("a", "i", "blue"))["spec"] == {"image": "i"}


def test_what_is_no_deployment_is_refused() -> None:
    for spec in ({"image": 1}, {"image": "a", "envVars": {"A": 1}}, {"image": "a", "secrets": "key"}):
        with pytest.raises(InvalidInput):
            from_object(function(spec))
    assert from_object(function({"image": "a", "envVars": None})) == FunctionSpec("a", "a", "blue")


def test_a_deployment_that_no_etcd_takes_is_refused() -> None:
    most = FunctionSpec("a", "i", env_vars={"A": "x" * (2**20 - 40)})
    assert from_object(to_object(most)) == most
    with pytest.raises(TooLarge, match=r"function 'a': its deployment has \d+ bytes; at most 1048576 are allowed"):
        to_object(FunctionSpec("a", "i", env_vars={"A": "x" * 2**20}))


def test_the_definition_is_of_the_kind_that_is_asked_for(kind: dict[str, Any]) -> None:
    assert kind["metadata"]["name"] == FUNCTIONS.name
    names = kind["spec"]["names"]
    assert (names["kind"], names["plural"], kind["spec"]["group"]) == ("Function", "functions", FUNCTIONS.group)
    (version,) = kind["spec"]["versions"]
    assert version["name"] == FUNCTIONS.version and "status" in version["subresources"]


def test_the_definition_has_every_field_of_a_deployment_and_no_other(kind: dict[str, Any]) -> None:
    properties = schema(kind)["properties"]["spec"]["properties"]
    assert set(properties) == set(spec_to_json(FULL)) - {"service", "namespace"}
    types = {"str": "string", "dict": "object", "list": "array", "bool": "boolean"}
    given = to_object(FULL)["spec"]
    assert {key: properties[key]["type"] for key in given} == {key: types[type(given[key]).__name__] for key in given}


def test_every_field_is_described(kind: dict[str, Any]) -> None:
    def undescribed(node: dict[str, Any], path: str) -> list[str]:
        found = [] if "description" in node else [path]
        for name, child in node.get("properties", {}).items():
            found += undescribed(child, f"{path}.{name}")
        return found

    properties = schema(kind)["properties"]
    assert undescribed(properties["spec"], "spec") + undescribed(properties["status"], "status") == []


def test_the_definition_knows_the_same_annotations(kind: dict[str, Any]) -> None:
    (known, *_) = schema(kind)["properties"]["spec"]["properties"]["annotations"]["x-kubernetes-validations"]
    assert set(re.findall(r"'(rescoldo\.dev/[\w-]+)'", known["rule"])) == {OURS + name for name in ANNOTATIONS}


@pytest.mark.slow
def test_the_definition_refuses_the_same_characters(kind: dict[str, Any]) -> None:
    (rule,) = schema(kind)["properties"]["spec"]["properties"]["image"]["x-kubernetes-validations"]
    pattern = re.search(r"r'(.*)'", rule["rule"])
    assert pattern is not None
    python = re.compile(re.sub(r"\\x\{(\w+)\}", lambda found: f"\\u{found[1]:0>4}", pattern[1]))  # RE2's code points
    characters = [chr(code) for code in range(0x11_0000) if not 0xD800 <= code < 0xE000]  # JSON has no halves
    assert [one for one in characters if bool(python.search(one)) == is_plain(one)] == []


def test_the_status_has_conditions_that_appliers_can_share(kind: dict[str, Any]) -> None:
    conditions = schema(kind)["properties"]["status"]["properties"]["conditions"]
    assert (conditions["x-kubernetes-list-type"], conditions["x-kubernetes-list-map-keys"]) == ("map", ["type"])
    (made,) = with_conditions({}, [Condition("Ready", True, "Asleep", "")], 1, 0.0)["conditions"]
    assert set(made) == set(conditions["items"]["properties"])


@pytest.mark.parametrize(("name", "spec"), REFUSED_BY_BOTH)
def test_what_the_schema_refuses_the_http_api_refuses(name: str, spec: dict[str, Any]) -> None:
    assert not accepted(function(spec, name)).holds


@pytest.mark.parametrize("spec", REFUSED_LATER)
def test_the_rest_becomes_a_condition_in_the_words_of_the_http_api(spec: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_spec(from_object(function(spec)))
    assert accepted(function(spec)) == Condition("Accepted", False, "Invalid", caught.value.message)


def test_a_good_deployment_is_accepted() -> None:
    assert accepted(to_object(FULL)) == Condition("Accepted", True, "Valid")


def test_a_condition_keeps_its_time_until_it_changes() -> None:
    first = with_conditions({"state": "asleep"}, [Condition("Ready", True, "Asleep")], 1, 0.0)
    assert first == {
        "state": "asleep",
        "observedGeneration": 1,
        "conditions": [
            {
                "type": "Ready",
                "status": "True",
                "observedGeneration": 1,
                "lastTransitionTime": "1970-01-01T00:00:00Z",
                "reason": "Asleep",
                "message": "",
            }
        ],
    }
    second = with_conditions(first, [Condition("Ready", True, "Awake"), Condition("Accepted", None, "New")], 2, 60.0)
    ready, new = second["conditions"]
    assert (ready["lastTransitionTime"], ready["reason"], ready["observedGeneration"]) == (
        "1970-01-01T00:00:00Z",
        "Awake",
        2,
    )
    assert (new["status"], new["lastTransitionTime"]) == ("Unknown", "1970-01-01T00:01:00Z")
    third = with_conditions(second, [Condition("Ready", False, "Failing", "why")], 2, 3600.0)
    times = [one["lastTransitionTime"] for one in third["conditions"]]
    assert times == ["1970-01-01T01:00:00Z", "1970-01-01T00:01:00Z"]
