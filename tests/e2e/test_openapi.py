"""The API conforms to its own OpenAPI document for any request: schemathesis against a real platform."""

from __future__ import annotations

import json
from dataclasses import fields
from http import HTTPStatus
from types import SimpleNamespace
from typing import Any, cast

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.specs.openapi import checks

from rescoldo.api.app import create_app
from rescoldo.api.protocol import Platform
from rescoldo.model.settings import Settings
from support.live import Live

pytestmark = pytest.mark.slow

CONFORMS = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
# no faults: routes that do not exist yet, and requests without room now
ALLOWED = (HTTPStatus.NOT_IMPLEMENTED, HTTPStatus.SERVICE_UNAVAILABLE)
FEW = settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
# names that exist here, unlike most generated ones
KNOWN = {"service": "echo", "image": "echo:test", "functionName": "echo", "serviceName": "echo", "namespace": ""}


@schemathesis.serializer("application/gzip")
def as_it_is(context: object, value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def document() -> dict[str, Any]:
    """Return the document; it needs no platform, because routes use theirs only in calls."""
    nobody = cast(Platform, SimpleNamespace(**dict.fromkeys(one.name for one in fields(Platform))))
    app = create_app(nobody, Settings(data="/nowhere", run="/nowhere"), None, b"")
    return app.openapi()


schema = schemathesis.openapi.from_dict(document())


@pytest.fixture(scope="module")
def echo(platform: Live) -> Live:
    platform.deploy("echo", "def handle(event, context):\n    return event.body\n")
    return platform


def bounded(case: schemathesis.Case) -> schemathesis.Case:
    """Change `case` so that it neither follows a log without end nor starts a hundred instances."""
    if case.path == "/system/logs":
        case.query = {**(case.query or {}), "follow": "false"}
    if isinstance(case.body, dict) and isinstance(case.body.get("replicas"), int):
        case.body["replicas"] %= 3
    return case


def send(case: schemathesis.Case, platform: Live) -> None:
    url = f"http://127.0.0.1:{platform.port}"
    response = case.call(base_url=url, headers=platform.authorization(), timeout=30)
    assert response.status_code < 500 or response.status_code in ALLOWED, response.text
    case.validate_response(response, checks=CONFORMS)


@schema.parametrize()
@FEW
def test_every_answer_conforms_to_the_document(case: schemathesis.Case, platform: Live) -> None:
    send(bounded(case), platform)


@schema.exclude(method="DELETE").parametrize()
@FEW
def test_every_answer_about_an_existing_function_conforms_to_the_document(case: schemathesis.Case, echo: Live) -> None:
    if "name" in (case.path_parameters or {}):
        case.path_parameters["name"] = "echo"
    if isinstance(case.body, dict):
        case.body |= {key: value for key, value in KNOWN.items() if key in case.body}
    send(bounded(case), echo)


def test_the_document_needs_the_password(platform: Live) -> None:
    assert platform.call("GET", "/system/openapi.json").status == 401
    assert json.loads(platform.system("GET", "/openapi.json").text) == document()
    assert "#/$defs" not in json.dumps(document())
