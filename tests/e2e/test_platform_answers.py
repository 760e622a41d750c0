"""The platform's own answers to calls, through the whole chain: each has an id, and pages can read it."""

from __future__ import annotations

import json

import pytest

from support.gateway import HELLO, Answer
from support.live import Live

pytestmark = pytest.mark.slow

ORIGIN = "https://shop.example"
CORS = {"rescoldo.dev/cors": f"http://localhost:3000,{ORIGIN}"}
ASKING = {"Origin": ORIGIN}
BROKEN = """
import os, time
def handle(event, context):
    if event.path == "/ends":
        os._exit(3)
    if event.path == "/sleeps":
        time.sleep(60)
    return {"statusCode": 404, "body": "mine"}
"""


def is_of_the_platform(answer: Answer, status: int) -> None:
    assert answer.status == status, answer.text
    assert len(answer.headers["x-call-id"]) == 36
    if status != 404 and status != 401:  # a missing function has no annotation
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        assert answer.headers["vary"] == "Origin"
        assert "X-Call-Id" in answer.headers["access-control-expose-headers"]


def test_every_error_of_the_platform_has_an_id_and_is_readable_by_pages_of_named_origins(platform: Live) -> None:
    hasty = {"exec_timeout": "300ms"}
    platform.deploy("broken", BROKEN, annotations=CORS | {"rescoldo.dev/max-body": "3"}, envVars=hasty)
    path = "/function/broken"
    is_of_the_platform(platform.call("GET", "/system/functions"), 401)
    is_of_the_platform(platform.call("GET", "/function/none", headers=ASKING), 404)
    is_of_the_platform(platform.call("POST", path, b"too large", ASKING), 413)
    is_of_the_platform(platform.call("POST", f"{path}/ends", b"", ASKING), 502)
    is_of_the_platform(platform.call("GET", f"{path}/sleeps", headers=ASKING), 504)

    for headers in ({}, {"Origin": "https://other.example"}):
        refused = platform.call("GET", f"{path}/sleeps", headers=headers)
        assert (refused.status, refused.headers.get("access-control-allow-origin")) == (504, None)

    for method in ("GET", "OPTIONS"):
        own = platform.call(method, path, headers=ASKING)
        assert (own.status, own.text) == (404, "mine")
        assert own.headers.get("access-control-allow-origin") is None, "the edge changed a function's own answer"

    assert platform.system("POST", "/function/broken/pause").status == 202
    is_of_the_platform(platform.call("GET", path, headers=ASKING), 503)

    platform.deploy("dead", "import os\nos._exit(7)\n" + HELLO, annotations=CORS, envVars=hasty)
    is_of_the_platform(platform.call("GET", "/function/dead", headers=ASKING), 502)


def test_an_annotation_that_names_no_origin_is_refused(platform: Live) -> None:
    platform.deploy("hello", HELLO)
    spec = {"service": "hello", "image": "hello:test", "annotations": {"rescoldo.dev/cors": "shop.example"}}
    refused = platform.system("PUT", "/functions", spec)
    assert refused.status == 400
    assert "rescoldo.dev/cors: 'shop.example' is not allowed" in refused.text


def test_an_exec_timeout_of_zero_is_accepted_and_shown(platform: Live) -> None:
    platform.deploy("patient", HELLO, envVars={"exec_timeout": "0"})
    assert platform.invoke("patient").text == "hello"
    found = json.loads(platform.system("GET", "/function/patient").text)
    assert found["envVars"]["exec_timeout"] == "0"


def test_replicas_may_be_sent_as_text(platform: Live) -> None:
    platform.deploy("twice", HELLO, labels={"com.openfaas.scale.min": "1"})
    body = {"serviceName": "twice", "replicas": "2"}
    assert platform.system("POST", "/scale-function/twice", body).status == 202
    platform.until(lambda: platform.replicas("twice") == 2, "two replicas")
