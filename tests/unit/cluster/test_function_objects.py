"""Functions and their revisions as objects, also those that others have made."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rescoldo.cluster.objects import (
    document_of,
    function_object,
    read_function,
    read_revision,
    revision_name,
    revision_object,
    status_of,
)
from rescoldo.kube.protocol import Object
from rescoldo.model.deployed import NEW, Deployed
from rescoldo.model.function import Function, FunctionSpec
from rescoldo.model.revision import Revision
from rescoldo.model.standing import Standing

SPEC = FunctionSpec("echo", "me/echo:2", "blue", env_vars={"a": "b"})
PAST = Revision(1, replace(SPEC, image="me/echo:1"), "a" * 64, 1.0)
FAILED = Revision(3, SPEC, "c" * 64, 3.0, failure="no such module")
DEPLOYED = Deployed(
    Function(SPEC, "b" * 64, 1.0, 2, 2.0, 7, {2: 90, 1: 10}), (FAILED, PAST), 4, Standing(paused=True), version=12
)
UID = "12345678-aaaa-bbbb-cccc-000000000000"


def stored(deployed: Deployed = DEPLOYED, **meta: object) -> Object:
    """The Function as the API server would have it."""
    obj = function_object(deployed.function.spec)
    obj["metadata"] |= {"uid": UID, "resourceVersion": "20", "generation": 3, **meta}
    obj["status"] = {"observedGeneration": 3, **status_of(deployed, deployed.version, ["echo-1"])}
    return obj


def revisions() -> dict[int, Revision]:
    return {one.number: one for one in (Revision.of(DEPLOYED.function), *DEPLOYED.revisions)}


def test_a_document_is_the_same_after_its_way_through_objects() -> None:
    wish = read_function(stored())
    assert (wish.uid, wish.version, wish.generation, wish.observed, wish.deployed) == (UID, 20, 3, 3, 12)
    assert document_of(wish, revisions()) == DEPLOYED
    for one in revisions().values():
        found = read_revision(revision_object(one, stored()))
        assert found is not None
        assert (found.revision, found.owner, found.function) == (one, UID, DEPLOYED.id)


def test_what_serves_is_the_deployment_of_its_revision_and_not_what_is_asked_for() -> None:
    obj = stored()
    obj["spec"]["image"] = "me/echo:3"
    found = document_of(read_function(obj), revisions())
    assert found is not None
    assert found.function.spec.image == "me/echo:2"
    assert read_function(obj).spec.image == "me/echo:3"


def test_without_its_revisions_a_function_serves_what_it_asks_for() -> None:
    found = document_of(read_function(stored()), {})
    assert found is not None
    assert (found.function, found.revisions) == (DEPLOYED.function, ())


def test_what_was_never_deployed_or_is_being_deleted_has_no_document() -> None:
    fresh = function_object(SPEC)
    fresh["metadata"] |= {"uid": UID, "resourceVersion": "20"}
    assert read_function(fresh).deployed == NEW
    assert document_of(read_function(fresh), {}) is None
    assert document_of(read_function(stored(deletionTimestamp="2026-01-01T00:00:00Z")), revisions()) is None


def test_a_spec_that_cannot_be_read_asks_for_nothing() -> None:
    obj = stored()
    obj["spec"]["envVars"] = "text"
    assert read_function(obj).spec == FunctionSpec("echo", "", "blue")


@pytest.mark.parametrize("part", ["data", "revision", "metadata"])
def test_what_only_looks_like_a_revision_of_ours_is_left_alone(part: str) -> None:
    obj = revision_object(PAST, stored())
    obj[part] = {"namespace": "blue", "name": "x"} if part == "metadata" else {"spec": {}}
    assert read_revision(obj) is None


def test_a_revision_that_failed_after_it_served_is_another_object() -> None:
    assert revision_name("echo", UID, PAST) == "echo-12345678-1"
    assert revision_name("echo", UID, replace(PAST, failure="no")) == "echo-12345678-1-failed"
