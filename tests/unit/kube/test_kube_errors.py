"""What the answers of an API server mean, and the words in which users read them."""

from __future__ import annotations

from typing import Any

import pytest

from rescoldo.kube.errors import Asked, Changed, ClusterUnavailable, Expired, Forbidden, Owned, error_of
from rescoldo.kube.protocol import Resource
from rescoldo.model.errors import Conflict, InvalidInput, NotFound, RescoldoError, TooLarge

FUNCTIONS = Resource("rescoldo.dev", "v1", "Function", "functions", has_status=True)
NODES = Resource("", "v1", "Node", "nodes", namespaced=False)
SECRETS = Resource("", "v1", "Secret", "secrets")
ASKED = Asked("patch", FUNCTIONS, "blue", "hello", "status")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ({"code": 404, "reason": "NotFound"}, NotFound),
        ({"code": 409, "reason": "AlreadyExists"}, Conflict),
        ({"code": 409, "reason": "Conflict"}, Changed),
        ({"code": 409, "reason": "Conflict", "details": {"causes": [{"reason": "FieldManagerConflict"}]}}, Owned),
        ({"code": 400, "reason": "BadRequest"}, InvalidInput),
        ({"code": 422, "reason": "Invalid"}, InvalidInput),
        ({"code": 413, "reason": "RequestEntityTooLarge"}, TooLarge),
        ({"code": 410, "reason": "Expired"}, Expired),
        ({"code": 410, "reason": "Gone"}, Expired),
        ({"code": 504, "details": {"causes": [{"reason": "ResourceVersionTooLarge"}]}}, Expired),
        ({"code": 504, "reason": "Timeout"}, ClusterUnavailable),
        ({"code": 429, "reason": "TooManyRequests"}, ClusterUnavailable),
        ({"code": 500, "reason": "InternalError"}, ClusterUnavailable),
        ({"code": 500, "message": "failed to create typed patch object (why): .spec.x: not declared"}, InvalidInput),
        ({"code": 500, "message": "why: etcdserver: request is too large"}, TooLarge),
        ({"code": 500, "message": "why: trying to send message larger than max (2 vs. 1)"}, TooLarge),
        ({"code": 401, "reason": "Unauthorized"}, Forbidden),
        ({"code": 403, "reason": "Forbidden"}, Forbidden),
        ({"code": 418}, RescoldoError),
        ({}, RescoldoError),
    ],
)
def test_a_status_has_its_error(status: dict[str, Any], kind: type[RescoldoError]) -> None:
    assert type(error_of({"message": "why", **status}, ASKED)) is kind
    assert "why" in error_of({"message": "why", **status}, ASKED).message


def test_a_missing_right_is_named_with_the_role_that_gives_it() -> None:
    says = 'functions.rescoldo.dev "hello" is forbidden: User "u" cannot patch resource "functions/status" in API group'
    assert error_of({"code": 403, "message": says}, ASKED).message == (
        "not allowed to patch functions.rescoldo.dev/status hello in namespace blue: a Role in namespace blue has to "
        "grant verb 'patch' on 'functions/status' of API group 'rescoldo.dev'; the API server says: " + says
    )
    says = 'nodes is forbidden: User "u" cannot list resource "nodes" in API group "" at the cluster scope'
    assert error_of({"code": 403, "message": says}, Asked("list", NODES)).message == (
        "not allowed to list nodes: a ClusterRole has to grant verb 'list' on 'nodes' of API group ''; "
        "the API server says: " + says
    )
    in_all = error_of({"code": 403, "message": says}, Asked("watch", SECRETS)).message
    assert in_all.startswith("not allowed to watch secrets in all namespaces: a ClusterRole has to grant verb 'watch'")


def test_a_quota_speaks_for_itself() -> None:
    says = 'functions.rescoldo.dev "hello" is forbidden: exceeded quota: few, requested: 1, used: 9, limited: 9'
    asked = Asked("create", FUNCTIONS, "blue", "hello")
    assert error_of({"code": 403, "message": says}, asked).message == (
        f"the Kubernetes API refuses to create functions.rescoldo.dev hello in namespace blue: {says}"
    )


def test_a_refused_value_is_repeated_if_it_is_short_and_never_for_secrets() -> None:
    short = {"code": 422, "message": 'spec.size: Invalid value: "x\\"y": must be a number'}
    assert error_of(short, ASKED).message == short["message"]
    assert error_of(short, Asked("create", SECRETS)).message == 'spec.size: Invalid value: "…": must be a number'
    long = {"code": 422, "message": f'patch: Invalid value: "{"x" * 5000}": unknown field'}
    assert error_of(long, ASKED).message == 'patch: Invalid value: "…": unknown field'
    assert len(error_of({"code": 422, "message": "x" * 5000}, ASKED).message) == 2000


@pytest.mark.parametrize(("header", "wait"), [("2", 2.0), ("", 1.0), ("61", 60.0), ("-1", 1.0), ("Mon, 1 Jan", 1.0)])
def test_retry_after_is_honoured_within_reason(header: str, wait: float) -> None:
    error = error_of({"code": 429, "message": "busy"}, ASKED, header)
    assert isinstance(error, ClusterUnavailable) and error.retry_after == wait
