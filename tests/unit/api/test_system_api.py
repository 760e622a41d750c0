"""Authentication, namespaces, bundles, and the gateway's description of itself."""

from __future__ import annotations

import hashlib
import platform as machine
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fake_platform import FakePlatform
from gateway import CREDENTIALS
from httpx2 import ASGITransport, AsyncClient

from rescoldo.api.app import create_app
from rescoldo.model.settings import Settings
from rescoldo.store.protocol import Bundle

GUARDED = [
    ("GET", "/system/functions"),
    ("POST", "/system/functions"),
    ("PUT", "/system/functions"),
    ("DELETE", "/system/functions"),
    ("GET", "/system/function/echo"),
    ("POST", "/system/scale-function/echo"),
    ("GET", "/system/info"),
    ("GET", "/system/status"),
    ("GET", "/system/namespaces"),
    ("POST", "/system/namespace/"),
    ("DELETE", "/system/namespace/blue"),
    ("GET", "/system/logs?name=echo"),
    ("GET", "/system/bundles"),
    ("POST", "/system/bundles?image=i"),
    ("GET", "/system/layers/" + "a" * 64),
    ("POST", "/system/layers"),
    ("GET", "/system/secrets"),
    ("POST", "/system/secrets"),
    ("DELETE", "/system/secrets"),
    ("POST", "/system/alert"),
    ("GET", "/system/absent"),
    ("GET", "/ui"),
    ("GET", "/ui/"),
    ("GET", "/metrics"),
    ("GET", "/system/openapi.json"),
    ("GET", "//system/functions"),
    ("GET", "/healthz/../system/functions"),
    ("GET", "/%2d/metrics/"),
]
AUTH = (CREDENTIALS.user.encode(), CREDENTIALS.password.encode())


@pytest.mark.parametrize(("method", "path"), GUARDED)
async def test_a_guarded_route_without_credentials_is_401(guarded: AsyncClient, method: str, path: str) -> None:
    answer = await guarded.request(method, path)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == 'Basic realm="Restricted"'


@pytest.mark.parametrize(
    "header",
    ["", "Basic", "Basic ", "Basic !!!", "Bearer ", "Bearer YWRtaW46eA==", "Basic YWRtaW46", "Basic \x7f", "x"],
)
async def test_bad_credentials_are_401(guarded: AsyncClient, header: str) -> None:
    answer = await guarded.get("/system/functions", headers={"Authorization": header})
    assert answer.status_code == 401


async def test_the_right_credentials_are_accepted_and_similar_ones_are_not(guarded: AsyncClient) -> None:
    user, password = AUTH
    assert (await guarded.get("/system/functions", auth=(user, password))).status_code == 200
    for wrong in [(user, password[:-1]), (user, password + b"x"), (b"Admin", password), (b"", b"")]:
        assert (await guarded.get("/system/functions", auth=wrong)).status_code == 401


async def test_the_metrics_of_the_gateway_are_guarded_and_those_of_the_edge_are_not(
    guarded: AsyncClient,
) -> None:
    inner = await guarded.get("/-/metrics")
    assert inner.status_code == 200
    assert inner.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert inner.text.startswith("gateway_service_count")
    assert (await guarded.get("/metrics", auth=AUTH)).content == inner.content


async def test_health_needs_no_credentials(guarded: AsyncClient) -> None:
    answer = await guarded.get("/healthz")
    assert (answer.status_code, answer.text) == (200, "OK")
    assert (await guarded.head("/healthz")).status_code == 200


async def test_an_empty_bearer_is_ignored_where_no_credentials_are_required(client: AsyncClient) -> None:
    answer = await client.get("/system/functions", headers={"Authorization": "Bearer "})
    assert answer.status_code == 200


async def test_info_has_the_fields_that_faas_cli_version_prints(client: AsyncClient) -> None:
    body = (await client.get("/system/info")).json()
    assert body["provider"]["provider"] == "rescoldo"
    assert body["provider"]["orchestration"] == "processes"
    assert body["provider"]["version"].keys() == {"release", "sha", "commit_message"} == body["version"].keys()
    assert all(body["version"].values()), "the certifier requires each of them"
    assert body["version"] == body["provider"]["version"]
    assert re.fullmatch("[0-9a-f]{40}", body["version"]["sha"])
    assert body["arch"] == machine.machine()


async def test_status_returns_the_platforms_report(client: AsyncClient) -> None:
    assert (await client.get("/system/status")).json() == {"functions": 0}


async def test_status_says_that_the_platform_drains(tmp_path: Path) -> None:
    settings = Settings(data="/nowhere", run=str(tmp_path))
    app = create_app(FakePlatform().ports(), settings, None, b"")
    async with AsyncClient(transport=ASGITransport(app), base_url="http://api") as client:
        assert "state" not in (await client.get("/system/status")).json()
        settings.draining_file.touch()
        assert (await client.get("/system/status")).json() == {"state": "draining", "functions": 0}


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
@pytest.mark.parametrize("path", ["/async-function/echo.openfaas-fn", "/async-function/a/b"])
async def test_a_route_that_is_not_implemented_yet_says_so(client: AsyncClient, method: str, path: str) -> None:
    answer = await client.request(method, path)
    assert answer.status_code == 501
    assert "do not exist yet" in answer.text


async def test_an_unknown_route_is_a_404_in_plain_text(client: AsyncClient) -> None:
    answer = await client.get("/system/absent")
    assert (answer.status_code, answer.text) == (404, "Not Found: GET /system/absent")
    for method in ("PATCH", "OPTIONS"):
        refused = await client.request(method, "/system/functions")
        assert (refused.status_code, refused.text) == (405, f"Method Not Allowed: {method} /system/functions")
        assert refused.headers["allow"] == "DELETE, GET, POST, PUT"


async def test_the_openapi_document_names_the_routes_and_their_bodies(client: AsyncClient) -> None:
    document = (await client.get("/system/openapi.json")).json()
    post = document["paths"]["/system/functions"]["post"]
    schema = post["requestBody"]["content"]["application/json"]["schema"]
    assert schema["required"] == ["service", "image"]
    assert {"envVars", "readOnlyRootFilesystem"} <= schema["properties"].keys()
    assert "/-/metrics" not in document["paths"]
    alert = document["paths"]["/system/alert"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert alert["properties"]["alerts"]["items"]["properties"].keys() == {"status", "labels"}
    assert (await client.get("/docs")).status_code == 404


# -- namespaces


async def test_faas_cli_creates_updates_and_removes_a_namespace(client: AsyncClient) -> None:
    marks = {"annotations": {"openfaas": "1"}, "labels": {"openfaas": "1"}}
    assert (await client.get("/system/namespaces")).json() == ["openfaas-fn"]
    assert (await client.post("/system/namespace/", json={"name": "blue"} | marks)).status_code == 201
    assert (await client.get("/system/namespaces")).json() == ["blue", "openfaas-fn"]
    assert (await client.get("/system/namespace/blue")).json() == {"name": "blue"} | marks
    changed = {"name": "blue", "labels": {"a": "b"}, "annotations": None}
    assert (await client.put("/system/namespace/blue", json=changed)).status_code == 202
    assert (await client.get("/system/namespace/blue")).json()["labels"] == {"a": "b"}
    body = {"name": "blue", "labels": {"openfaas": "1"}}
    assert (await client.request("DELETE", "/system/namespace/blue", json=body)).status_code == 202
    assert (await client.get("/system/namespace/blue")).status_code == 404
    assert (await client.put("/system/namespace/blue", json=changed)).status_code == 404


async def test_a_namespace_and_the_body_of_its_removal_must_agree(client: AsyncClient) -> None:
    await client.post("/system/namespace/blue")
    assert (await client.request("DELETE", "/system/namespace/blue", json={"name": "red"})).status_code == 400
    assert (await client.delete("/system/namespace/blue")).status_code == 202


async def test_the_path_alone_may_name_a_namespace(client: AsyncClient) -> None:
    assert (await client.post("/system/namespace/blue")).status_code == 201
    assert (await client.post("/system/namespace/blue")).status_code == 409


@pytest.mark.parametrize(
    ("path", "body"),
    [("", {}), ("", {"name": "No!"}), ("blue", {"name": "red"}), ("", {"name": 5})],
)
async def test_an_invalid_namespace_is_400(client: AsyncClient, path: str, body: object) -> None:
    assert (await client.post(f"/system/namespace/{path}", json=body)).status_code == 400


async def test_the_default_namespace_cannot_be_removed(client: AsyncClient) -> None:
    assert (await client.delete("/system/namespace/openfaas-fn")).status_code == 400


# -- bundles


async def test_a_push_tags_a_known_bundle_and_uploads_an_unknown_one(client: AsyncClient) -> None:
    data = b"tar.gz" * 1000
    digest = hashlib.sha256(data).hexdigest()
    tag = {"image": "me/echo:1", "digest": digest}
    assert (await client.post("/system/bundles", params=tag)).status_code == 404
    headers = {"X-Rescoldo-Digest": digest, "Content-Type": "application/gzip"}
    upload = await client.post("/system/bundles?image=me/echo:1", content=data, headers=headers)
    expected = {"image": "me/echo:1", "digest": digest, "size": 6000, "createdAt": "2023-11-14T22:13:20Z"}
    assert (upload.status_code, upload.json()) == (201, expected)
    again = await client.post("/system/bundles", params=tag | {"image": "me/echo:2"})
    assert (again.status_code, again.json()["image"]) == (200, "me/echo:2")
    listed = (await client.get("/system/bundles")).json()
    assert [bundle["image"] for bundle in listed] == ["me/echo:1", "me/echo:2"]
    assert (await client.get("/system/bundles?image=me/echo:1")).json() == [expected]
    assert (await client.get("/system/bundles?image=none")).json() == []


async def test_a_layer_is_found_once_uploaded(client: AsyncClient) -> None:
    data = b"tar.gz" * 1000
    digest = hashlib.sha256(data).hexdigest()
    assert (await client.get(f"/system/layers/{digest}")).status_code == 404
    headers = {"X-Rescoldo-Digest": digest, "Content-Type": "application/gzip"}
    upload = await client.post("/system/layers", content=data, headers=headers)
    assert (upload.status_code, upload.json()) == (201, {"digest": digest})
    found = await client.get(f"/system/layers/{digest}")
    assert (found.status_code, found.json()) == (200, {"digest": digest})
    wrong = await client.post("/system/layers", content=b"x", params={"digest": digest})
    assert wrong.status_code == 400
    assert (await client.post("/system/layers", content=bytes(6_000_001))).status_code == 413


@pytest.mark.parametrize("place", ["header", "query"])
async def test_an_upload_with_another_digest_is_400(client: AsyncClient, place: str) -> None:
    headers = {"X-Rescoldo-Digest": "a" * 64} if place == "header" else {}
    query = {"digest": "a" * 64} if place == "query" else {}
    answer = await client.post("/system/bundles", params={"image": "i"} | query, content=b"x", headers=headers)
    assert (answer.status_code, answer.text) == (400, "the digest does not match")


async def test_a_chunked_upload_arrives_complete(client: AsyncClient) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"ab"
        yield b"cd"

    answer = await client.post("/system/bundles?image=i", content=chunks())
    assert answer.json()["digest"] == hashlib.sha256(b"abcd").hexdigest()


async def test_an_upload_with_too_large_a_content_length_is_413(client: AsyncClient) -> None:
    answer = await client.post("/system/bundles?image=i", content=bytes(6_000_001))
    assert answer.status_code == 413
    assert "6000000 bytes" in answer.text


@pytest.mark.parametrize("query", ["", "?image="])
async def test_an_upload_without_a_name_is_400(client: AsyncClient, query: str) -> None:
    answer = await client.post("/system/bundles" + query, content=b"x")
    assert answer.status_code == 400
    assert "image" in answer.text


async def test_an_upload_of_single_bytes_is_passed_on_in_large_chunks(
    client: AsyncClient, platform: FakePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces: list[int] = []
    add = platform.add

    async def counted(image: str, body: AsyncIterator[bytes], digest: str | None) -> Bundle:
        async def each() -> AsyncIterator[bytes]:
            async for piece in body:
                pieces.append(len(piece))
                yield piece

        return await add(image, each(), digest)

    async def single() -> AsyncIterator[bytes]:
        for _ in range(10_000):
            yield b"x"

    monkeypatch.setattr(platform, "add", counted)
    assert (await client.post("/system/bundles?image=i", content=single())).status_code == 201
    assert pieces == [1, 9_999]


async def test_control_characters_of_a_path_are_escaped_in_the_response(client: AsyncClient) -> None:
    answer = await client.get("/nowhere/%1b[2J%c2%9b")
    assert answer.status_code == 404
    assert answer.text == r"Not Found: GET /nowhere/\x1b[2J\x9b"


@pytest.mark.parametrize("body", ["[" * 4090, '{"service":' + "[" * 500_000, '{"service": "\\ud800", "image": "i"}'])
async def test_deeply_nested_json_or_a_lone_surrogate_is_a_bad_request(client: AsyncClient, body: str) -> None:
    answer = await client.post("/system/functions", content=body)
    assert answer.status_code == 400
    assert answer.text.startswith("the request body is not valid")
