"""The recorded requests of faas-cli 0.18.12, on a real platform.

The client itself does not run here: each test sends what one of its verbs sends (path, query, body, headers) and
checks that the answer has a status and a form which that verb takes for success, or for the failure it means.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from support.gateway import Answer
from support.live import Live

pytestmark = pytest.mark.slow

AGENT = "faas-cli/0.18.12 (openfaas; linux; amd64)"
MARKS = {"annotations": {"openfaas": "1"}, "labels": {"openfaas": "1"}}
CREATED = (200, 201, 202)
CHANGED = (200, 202)  # for secrets: the client takes 201 and 204 for errors
ECHO = """
import os

def handle(event, context):
    print("called", event.method)
    if event.path == "/secret":
        return open("/var/openfaas/secrets/token").read()
    if event.path == "/environment":
        return os.environ.get(event.query["name"], "")
    headers = {key.lower(): value for key, value in event.headers.items()}
    return {"body": {"method": event.method, "path": event.path, "query": dict(event.query), "headers": headers,
                     "body": event.body.decode()}}
"""


class Client:
    """Sends the requests of faas-cli."""

    def __init__(self, platform: Live) -> None:
        self.platform = platform

    def send(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        data = json.dumps(body).encode() if body is not None else None
        own = {"User-Agent": AGENT, **({"Content-Type": "application/json"} if data else {})}
        return self.platform.call(method, path, data, {**own, **self.platform.authorization(), **(headers or {})})

    def deploy(self, name: str, **fields: Any) -> tuple[int, ...]:
        """Deploy as `faas-cli deploy`: PUT, and POST after a 404. Return the statuses in order."""
        body = {"service": name, "image": "echo:test", "readOnlyRootFilesystem": False, **fields}
        first = self.send("PUT", "/system/functions", body).status
        return (first,) if first != 404 else (first, self.send("POST", "/system/functions", body).status)

    def invoke(self, name: str, body: bytes = b"", *, method: str = "POST", query: str = "", **headers: str) -> Answer:
        """Call as `faas-cli invoke`: always with the namespace, never with the gateway's password."""
        own = {"User-Agent": AGENT, "Content-Type": "text/plain"}
        return self.platform.call(method, f"/function/{name}{query}", body, {**own, **headers})


@pytest.fixture(scope="module")
def faas(platform: Live) -> Client:
    platform.upload("echo:test", ECHO)
    return Client(platform)


def test_version_finds_the_provider_and_the_versions_it_prints(faas: Client) -> None:
    answer = faas.send("GET", "/system/info")
    info = json.loads(answer.text)
    assert answer.status == 200
    assert info["provider"]["provider"] and info["provider"]["orchestration"] and info["arch"]
    assert {"release", "sha"} <= info["provider"]["version"].keys()
    assert {"release", "sha", "commit_message"} <= info["version"].keys()


def test_login_lists_with_the_password_and_a_wrong_one_gets_401(faas: Client) -> None:
    assert faas.send("GET", "/system/functions").status == 200
    wrong = "Basic " + base64.b64encode(b"admin:wrong").decode()
    assert faas.send("GET", "/system/functions", headers={"Authorization": wrong}).status == 401
    # the client sends this without a password
    assert faas.send("GET", "/system/functions", headers={"Authorization": "Bearer "}).status == 401


def test_deploy_creates_then_updates_and_describe_and_list_show_the_function(faas: Client) -> None:
    fields = {
        "envProcess": "", "envVars": {"A": "1"}, "constraints": [], "secrets": [], "labels": {"l": "m"},
        "annotations": {"topic": "x"}, "limits": {"memory": "128Mi", "cpu": "500m"}, "requests": {"memory": "64Mi"},
    }  # fmt: skip
    assert faas.deploy("full", **fields) in [(404, code) for code in CREATED]
    assert faas.deploy("full", **fields | {"envVars": {"A": "2"}})[0] in CREATED
    assert faas.invoke("full.openfaas-fn/environment", query="?name=A").text == "2"

    described = faas.send("GET", "/system/function/full?usage=1")
    status = json.loads(described.text)
    assert described.status == 200
    assert (status["name"], status["image"], status["envVars"]) == ("full", "echo:test", {"A": "2"})
    assert status["availableReplicas"] == 1
    assert status["usage"]["totalMemoryBytes"] > 0
    datetime.fromisoformat(status["createdAt"])
    (listed,) = [item for item in json.loads(faas.send("GET", "/system/functions").text) if item["name"] == "full"]
    assert {"name", "image", "invocationCount", "replicas", "availableReplicas", "createdAt"} <= listed.keys()
    # `diff` compares these with the stack file
    assert listed["labels"] == {"l": "m", "faas_function": "full"}
    assert listed["annotations"]["topic"] == "x"

    missing = faas.send("GET", "/system/function/none?usage=1")
    assert (missing.status, missing.body) == (404, b"")


def test_deploy_with_replace_removes_first_and_removing_nothing_gets_404(faas: Client) -> None:
    faas.deploy("again")
    body = {"functionName": "again"}
    assert faas.send("DELETE", "/system/functions", body).status in CREATED
    again = {"service": "again", "image": "echo:test", "readOnlyRootFilesystem": False}
    assert faas.send("POST", "/system/functions", again).status in CREATED
    assert faas.send("DELETE", "/system/functions", body).status in CREATED
    assert faas.send("DELETE", "/system/functions", body).status == 404


def test_the_error_for_a_container_image_names_the_remedy(faas: Client) -> None:
    answer = faas.send("POST", "/system/functions", {"service": "figlet", "image": "ghcr.io/openfaas/figlet:latest"})
    assert answer.status == 400
    # the client prints the body unchanged
    assert "rescoldo up" in answer.text


def test_invoke_passes_on_method_query_headers_and_a_signature(faas: Client) -> None:
    faas.deploy("call")
    key, body = b"secret", b"hello"
    signature = "sha256=" + hmac.new(key, body, hashlib.sha256).hexdigest()
    answer = faas.invoke("call.openfaas-fn", body, method="PATCH", query="?a=b", **{"X-Sign": signature, "X-K": "V"})
    seen = json.loads(answer.text)
    assert (seen["method"], seen["query"], seen["body"]) == ("PATCH", {"a": "b"}, "hello")
    assert (seen["headers"]["x-sign"], seen["headers"]["x-k"]) == (signature, "V")
    assert seen["headers"]["content-type"] == "text/plain"
    assert "authorization" not in seen["headers"]
    assert faas.invoke("none.openfaas-fn").status == 404


@contextmanager
def followed(faas: Client, path: str) -> Iterator[http.client.HTTPResponse]:
    """Yield a response that can be read while it arrives."""
    with closing(http.client.HTTPConnection("127.0.0.1", faas.platform.port, timeout=30)) as connection:
        connection.request("GET", path, headers={"User-Agent": AGENT, **faas.platform.authorization()})
        yield connection.getresponse()


def test_logs_follow_line_by_line_and_end_without_follow(faas: Client) -> None:
    faas.deploy("talk")
    faas.invoke("talk.openfaas-fn")
    with followed(faas, "/system/logs?name=talk&follow=true") as stream:
        assert stream.status == 200
        assert stream.headers["content-type"].startswith("application/x-ndjson")
        first = json.loads(stream.readline())
        assert {"name", "namespace", "instance", "timestamp", "text"} <= first.keys()
        assert (first["name"], first["text"].strip()) == ("talk", "called POST")
        faas.invoke("talk.openfaas-fn", method="PUT")
        assert json.loads(stream.readline())["text"].strip() == "called PUT"
    since = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert faas.send("GET", f"/system/logs?follow=false&name=talk&since={since}").status == 200
    ended = faas.send("GET", "/system/logs?follow=false&name=talk&tail=1")
    assert [json.loads(line)["text"].strip() for line in ended.text.splitlines()] == ["called PUT"]
    assert faas.send("GET", "/system/logs?name=none&follow=true").status == 404


def test_a_secret_is_created_listed_used_updated_and_removed(faas: Client) -> None:
    create = {"name": "token", "value": "one"}
    assert faas.send("POST", "/system/secrets", create).status in CREATED
    assert faas.send("POST", "/system/secrets", create).status == 409
    listed = faas.send("GET", "/system/secrets")
    assert [item["name"] for item in json.loads(listed.text)] == ["token"]
    assert "one" not in listed.text

    faas.deploy("keeper", secrets=["token"])
    assert faas.invoke("keeper.openfaas-fn/secret").text == "one"
    raw = {"name": "token", "rawValue": base64.b64encode(b"two").decode()}
    assert faas.send("PUT", "/system/secrets", raw).status in CHANGED
    assert faas.invoke("keeper.openfaas-fn/secret").text == "two"

    faas.send("DELETE", "/system/functions", {"functionName": "keeper"})
    assert faas.send("DELETE", "/system/secrets", {"name": "token"}).status in CHANGED
    assert faas.send("DELETE", "/system/secrets", {"name": "token"}).status == 404
    assert faas.send("PUT", "/system/secrets", raw).status == 404


def test_a_namespace_is_created_updated_used_and_removed(faas: Client) -> None:
    body = {"name": "blue", **MARKS}
    assert faas.send("POST", "/system/namespace/", body).status in CREATED
    assert json.loads(faas.send("GET", "/system/namespaces").text) == ["blue", "openfaas-fn"]
    assert json.loads(faas.send("GET", "/system/namespace/blue").text) == {"name": "blue", **MARKS}
    more = body | {"labels": {"openfaas": "1", "team": "a"}}
    assert faas.send("PUT", "/system/namespace/blue", more).status in CREATED
    assert json.loads(faas.send("GET", "/system/namespace/blue").text)["labels"]["team"] == "a"

    faas.deploy("there", namespace="blue")
    assert [item["name"] for item in json.loads(faas.send("GET", "/system/functions?namespace=blue").text)] == ["there"]
    assert faas.send("GET", "/system/function/there?usage=1&namespace=blue").status == 200
    assert faas.invoke("there.blue").status == 200
    assert faas.invoke("there.openfaas-fn").status == 404
    gone = {"functionName": "there", "namespace": "blue"}
    assert faas.send("DELETE", "/system/functions", gone).status in CREATED

    blue = {"name": "blue", "labels": {"openfaas": "1"}}
    assert faas.send("DELETE", "/system/namespace/blue", blue).status in CREATED
    assert faas.send("GET", "/system/namespace/blue").status == 404


def test_ready_asks_for_health_without_a_password_and_for_replicas(faas: Client, platform: Live) -> None:
    assert platform.call("GET", "/healthz", headers={"User-Agent": AGENT}).status == 200
    faas.deploy("awake", labels={"com.openfaas.scale.min": "1"})
    platform.until(lambda: platform.replicas("awake") == 1, "the function to be awake")


def test_the_sdks_request_scales_a_function(faas: Client, platform: Live) -> None:
    faas.deploy("many")
    body = {"serviceName": "many", "replicas": 2, "namespace": "openfaas-fn"}
    assert faas.send("POST", "/system/scale-function/many", body).status in CREATED
    platform.until(lambda: platform.replicas("many") == 2, "two instances")
