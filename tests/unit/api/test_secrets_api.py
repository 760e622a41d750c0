"""/system/secrets, as faas-cli 0.18.12 calls it."""

from __future__ import annotations

import base64
import json
import logging

import pytest
from fake_platform import FakePlatform
from httpx2 import AsyncClient

from rescoldo.api.bodies import SecretBody

KEY = ("openfaas-fn", "key")
VALUE = "s3cret"


async def test_workers_that_have_not_the_value_yet_are_named_in_the_answer(
    client: AsyncClient, platform: FakePlatform
) -> None:
    platform.secret_notes = ["fn.openfaas-fn: these workers\nlag: a"]
    for method in ("POST", "PUT"):
        answer = await client.request(method, "/system/secrets", json={"name": "key", "value": VALUE})
        assert (answer.status_code, answer.text) == (202, "note: fn.openfaas-fn: these workers\\nlag: a\n")


async def test_faas_cli_creates_lists_updates_and_removes_a_secret(client: AsyncClient, platform: FakePlatform) -> None:
    created = await client.post("/system/secrets", json={"name": "key", "value": VALUE})
    assert (created.status_code, created.content) == (202, b"")
    assert platform.kept_secrets == {KEY: b"s3cret"}
    listed = await client.get("/system/secrets")
    assert (listed.status_code, listed.json()) == (200, [{"name": "key", "namespace": "openfaas-fn"}])
    updated = await client.put("/system/secrets", json={"name": "key", "namespace": "openfaas-fn", "value": "new"})
    assert (updated.status_code, platform.kept_secrets) == (202, {KEY: b"new"})
    removed = await client.request("DELETE", "/system/secrets", json={"name": "key", "namespace": ""})
    assert (removed.status_code, platform.kept_secrets) == (202, {})
    assert (await client.get("/system/secrets")).json() == []


async def test_raw_bytes_arrive_as_base64_and_take_precedence_over_text(
    client: AsyncClient, platform: FakePlatform
) -> None:
    raw = bytes(range(256))
    body = {"name": "key", "value": "ignored", "rawValue": base64.b64encode(raw).decode()}
    assert (await client.post("/system/secrets", json=body)).status_code == 202
    assert platform.kept_secrets == {KEY: raw}


async def test_the_same_name_in_another_namespace_is_another_secret(
    client: AsyncClient, platform: FakePlatform
) -> None:
    await client.post("/system/namespace/blue")
    for namespace, value in (("", "a"), ("blue", "b")):
        body = {"name": "key", "namespace": namespace, "value": value}
        assert (await client.post("/system/secrets", json=body)).status_code == 202
    assert platform.kept_secrets == {KEY: b"a", ("blue", "key"): b"b"}
    assert (await client.get("/system/secrets?namespace=blue")).json() == [{"name": "key", "namespace": "blue"}]


async def test_creating_an_existing_secret_is_a_409_that_changes_nothing(
    client: AsyncClient, platform: FakePlatform
) -> None:
    await client.post("/system/secrets", json={"name": "key", "value": VALUE})
    assert (await client.post("/system/secrets", json={"name": "key", "value": "new"})).status_code == 409
    assert platform.kept_secrets == {KEY: b"s3cret"}


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_an_unknown_secret_is_a_404(client: AsyncClient, method: str) -> None:
    assert (await client.request(method, "/system/secrets", json={"name": "key", "value": VALUE})).status_code == 404


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_secrets_of_an_unknown_namespace_are_a_404(client: AsyncClient, method: str) -> None:
    body = {"name": "key", "namespace": "none", "value": VALUE}
    answer = await client.request(method, "/system/secrets", params={"namespace": "none"}, json=body)
    assert answer.status_code == 404


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"name": "key"}, "empty"),
        ({"name": "key", "value": None, "rawValue": None}, "empty"),
        ({"value": VALUE}, "name: is missing"),
        ({"name": "../key", "value": VALUE}, "'../key'"),
        ({"name": ".new", "value": VALUE}, "'.new'"),
        ({"name": "a/b", "value": VALUE}, "'a/b'"),
        ({"name": "a" * 254, "value": VALUE}, "1 to 253"),
        ({"name": "key", "rawValue": "s3cret!"}, "rawValue: not base64"),
        ({"name": "key", "rawValue": "é3cret"}, "rawValue: not base64"),
        ({"name": "key", "value": [VALUE]}, "value: "),
        ({"name": [VALUE], "value": VALUE}, "name: "),
        ({"name": "key", "value": {VALUE: VALUE}}, "value: "),
    ],
)
@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_a_bad_secret_is_a_400_that_does_not_repeat_it(
    client: AsyncClient, caplog: pytest.LogCaptureFixture, method: str, body: object, said: str
) -> None:
    with caplog.at_level(logging.DEBUG):
        answer = await client.request(method, "/system/secrets", json=body)
    assert answer.status_code == 400
    assert said in answer.text
    assert "3cret" not in answer.text + caplog.text


async def test_json_truncated_inside_the_value_is_not_repeated(client: AsyncClient) -> None:
    answer = await client.post("/system/secrets", content=b'{"name": "key", "value": "s3cret')
    assert answer.status_code == 400
    assert "s3cret" not in answer.text


@pytest.mark.parametrize("field", ["value", "rawValue"])
async def test_a_secret_may_have_at_most_a_mebibyte(client: AsyncClient, platform: FakePlatform, field: str) -> None:
    for size, status in ((2**20, 202), (2**20 + 1, 413), (3 * 2**20, 413)):
        data = b"x" * size
        value = base64.b64encode(data).decode() if field == "rawValue" else data.decode()
        answer = await client.post("/system/secrets", json={"name": f"s{size}", field: value})
        assert answer.status_code == status
    assert [len(value) for value in platform.kept_secrets.values()] == [2**20]


def test_repr_hides_a_secret() -> None:
    body = SecretBody.model_validate_json(json.dumps({"name": "key", "value": VALUE, "rawValue": VALUE}))
    assert "s3cret" not in f"{body!r} {body}"
