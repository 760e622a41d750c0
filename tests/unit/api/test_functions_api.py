"""/system/functions and related routes, as faas-cli 0.18.12 calls them."""

from __future__ import annotations

import json

import pytest
from fake_platform import FakePlatform
from gateway import client_of
from httpx2 import AsyncClient

from rescoldo.api.deployments import patience_of
from rescoldo.model.calls import FailedCall
from rescoldo.model.errors import Busy
from rescoldo.model.names import InstanceId, function_id

# What faas-cli sends: no field that it may omit, and one that we do not know
DEPLOYMENT = {
    "service": "echo",
    "image": "me/echo:1",
    "envProcess": "python index.py",
    "envVars": {"KEY": "V"},
    "constraints": [],
    "secrets": [],
    "labels": {"team": "a"},
    "annotations": {"owner": "x"},
    "limits": {},
    "readOnlyRootFilesystem": False,
    "registryAuth": "ignored",
    "network": "ignored",
}
EMPTY_BEARER = {"Authorization": "Bearer "}


async def test_faas_cli_deploys_with_put_then_after_404_with_post(client: AsyncClient, platform: FakePlatform) -> None:
    put = await client.put("/system/functions", json=DEPLOYMENT, headers=EMPTY_BEARER)
    assert put.status_code == 404
    post = await client.post("/system/functions", json=DEPLOYMENT, headers=EMPTY_BEARER)
    assert (post.status_code, post.content) == (202, b"")
    again = await client.put("/system/functions", json=DEPLOYMENT | {"image": "me/echo:2"})
    assert again.status_code == 202
    assert platform.deployed[function_id("echo")].function.spec.image == "me/echo:2"


async def test_a_post_replaces_an_existing_function(client: AsyncClient, platform: FakePlatform) -> None:
    await client.post("/system/functions", json=DEPLOYMENT)
    answer = await client.post("/system/functions", json=DEPLOYMENT | {"image": "me/echo:2"})
    assert answer.status_code == 202
    assert platform.deployed[function_id("echo")].function.spec.image == "me/echo:2"


async def test_the_description_of_a_function_has_every_field_of_the_contract(client: AsyncClient) -> None:
    await client.post("/system/functions", json=DEPLOYMENT)
    answer = await client.get("/system/function/echo")
    assert answer.status_code == 200
    assert answer.json() == {
        "name": "echo",
        "namespace": "openfaas-fn",
        "image": "me/echo:1",
        "envProcess": "python index.py",
        "envVars": {"KEY": "V"},
        "labels": {"team": "a", "faas_function": "echo"},
        "annotations": {"owner": "x", "prometheus.io.scrape": "false"},
        "readOnlyRootFilesystem": False,
        "invocationCount": 42,
        "replicas": 1,
        "availableReplicas": 1,
        "createdAt": "2023-11-14T22:13:20Z",
        "revision": 1,
        "state": "ready",
    }


async def test_fields_that_a_deployment_does_not_set_are_absent_from_its_status(client: AsyncClient) -> None:
    """OpenFaaS's own gateway omits them, and its certifier distinguishes an absent map from an empty one."""
    await client.post("/system/functions", json={"service": "echo", "image": "i"})
    one, (listed,) = (await client.get("/system/function/echo")).json(), (await client.get("/system/functions")).json()
    empty = {"envProcess", "envVars", "constraints", "secrets", "limits", "requests"}
    assert empty.isdisjoint(one)
    assert empty.isdisjoint(listed)


async def test_a_failing_functions_status_has_state_and_reason(client: AsyncClient) -> None:
    deployed = await client.post("/system/functions", json=DEPLOYMENT | {"envVars": {"FAIL": "ImportError"}})
    assert deployed.status_code == 202, "OpenFaaS's clients get their response at once"
    found = (await client.get("/system/function/echo")).json()
    assert (found["state"], found["reason"], found["replicas"]) == ("failing", "ImportError", 0)
    [listed] = (await client.get("/system/functions")).json()
    assert (listed["state"], listed["reason"]) == ("failing", "ImportError")


@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_a_client_that_prefers_to_wait_gets_the_outcome_of_the_start(
    client: AsyncClient, platform: FakePlatform, method: str
) -> None:
    await client.post("/system/functions", json=DEPLOYMENT)
    wait = {"Prefer": "respond-async, wait=30"}
    answer = await client.request(method, "/system/functions", json=DEPLOYMENT, headers=wait)
    assert (answer.status_code, answer.headers["preference-applied"]) == (202, "wait")
    slow = await client.request(
        method, "/system/functions", json=DEPLOYMENT | {"envVars": {"SLOW": "1"}}, headers=wait
    )
    assert (slow.status_code, "preference-applied" in slow.headers) == (202, False), "the start goes on"
    assert slow.headers["x-rescoldo-rollout"] == "starting"
    assert "x-rescoldo-rollout" not in answer.headers
    failed = await client.request(
        method, "/system/functions", json=DEPLOYMENT | {"envVars": {"FAIL": "ImportError"}}, headers=wait
    )
    assert (failed.status_code, failed.headers["x-rescoldo-rollout"]) == (400, "failing")
    assert "ImportError" in failed.text
    assert platform.starts == [(True, 0.0), *[(True, 30.0)] * 3]


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        ([], 0), ([""], 0), (["wait"], 0), (["wait=x"], 0), (["wait=-1"], 0), (["wait=1.5"], 0),
        (["wait=" + "9" * 99], 0), (["wait=7"], 7), (['Wait="7"'], 7), (["return=minimal; wait=9, wait = 8"], 8),
        (["a", "b, wait=7;x=y"], 7), (["wait=99999"], 600),
    ],
)  # fmt: skip
def test_the_prefer_header_is_parsed_as_http_defines_it(prefer: list[str], seconds: float) -> None:
    assert patience_of(prefer) == seconds


async def test_a_deployment_may_ask_to_start_nothing(client: AsyncClient, platform: FakePlatform) -> None:
    for query in ("?rollout=immediate", "?rollout=checked", "?rollout="):
        assert (await client.post(f"/system/functions{query}", json=DEPLOYMENT)).status_code == 202
    refused = await client.post("/system/functions?rollout=never", json=DEPLOYMENT)
    assert (refused.status_code, "'never'" in refused.text, "immediate" in refused.text) == (400, True, True)
    assert [start for start, _ in platform.starts] == [False, True, True]


async def test_a_function_is_paused_and_resumed(client: AsyncClient, platform: FakePlatform) -> None:
    await client.post("/system/functions", json=DEPLOYMENT)
    for verb, state in (("pause", "paused"), ("resume", "asleep")):
        assert (await client.post(f"/system/function/echo/{verb}")).status_code == 202
        assert (await client.get("/system/function/echo")).json()["state"] == state
        assert (await client.post(f"/system/function/none/{verb}")).status_code == 404


async def test_a_worker_keeps_functions_awake_at_controls_request(platform: FakePlatform) -> None:
    platform.is_worker = True
    async with client_of(platform, None) as client:
        await client.post("/system/functions", json=DEPLOYMENT)
        for body in ({}, {"namespace": "openfaas-fn"}):
            assert (await client.post("/system/function/echo/keep", json=body)).status_code == 204
        assert (await client.post("/system/function/echo/keep")).status_code == 204
        assert (await client.post("/system/function/none/keep")).status_code == 404
        assert "/keep" not in (await client.get("/system/openapi.json")).text
    assert platform.kept == 3 * [function_id("echo")]


async def test_a_platform_that_stands_alone_has_no_route_for_it(client: AsyncClient) -> None:
    await client.post("/system/functions", json=DEPLOYMENT)
    for verb in ("keep", "nonsense"):
        answer = await client.post(f"/system/function/echo/{verb}", json={"namespace": "openfaas-fn"})
        assert (answer.status_code, answer.text) == (404, f"Not Found: POST /system/function/echo/{verb}")


@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_notes_on_settings_without_effect_are_in_the_deployments_response_and_the_status(
    client: AsyncClient, method: str
) -> None:
    asks = {"annotations": {"topic": "x"}, "limits": {"cpu": "500m"}}
    await client.post("/system/functions", json=DEPLOYMENT)
    answer = await client.request(method, "/system/functions", json=DEPLOYMENT | asks)
    assert (answer.status_code, answer.headers["content-type"]) == (202, "text/plain; charset=utf-8")
    notes = (await client.get("/system/function/echo")).json()["notes"]
    assert [note.partition(":")[0] for note in notes] == ["annotation topic", "limits.cpu"]
    assert answer.text.splitlines() == [f"note: {note}" for note in notes]
    [listed] = (await client.get("/system/functions")).json()
    assert "notes" not in listed, "the list has OpenFaaS's fields only"


async def test_the_explanation_is_included_on_request(client: AsyncClient) -> None:
    await client.post("/system/functions", json=DEPLOYMENT)
    assert "why" not in (await client.get("/system/function/echo")).json()
    why = (await client.get("/system/function/echo?why=1")).json()["why"]
    assert (why["wanted"], why["look"]["reason"], why["steps"][0]["after"]) == (2, "requests queue", 2)


async def test_usage_is_included_on_request(client: AsyncClient) -> None:
    await client.post("/system/functions", json=DEPLOYMENT)
    answer = await client.get("/system/function/echo?usage=1&namespace=openfaas-fn")
    assert answer.json()["usage"] == {"cpu": 12, "totalMemoryBytes": 3_000_000}


async def test_usage_includes_failed_calls_if_there_are_any(client: AsyncClient, platform: FakePlatform) -> None:
    await client.post("/system/functions", json=DEPLOYMENT)
    assert "failures" not in (await client.get("/system/function/echo?usage=1")).json()
    platform.failures = [FailedCall(function_id("echo"), InstanceId("echo-1"), "id", 1_700_000_000.25, 502, "why")]
    assert "failures" not in (await client.get("/system/function/echo")).json()
    assert (await client.get("/system/function/echo?usage=1")).json()["failures"] == [
        {"callId": "id", "at": "2023-11-14T22:13:20.250000Z", "status": 502, "instance": "echo-1", "reason": "why"}
    ]


async def test_describing_an_unknown_function_is_a_404_with_an_empty_body(client: AsyncClient) -> None:
    answer = await client.get("/system/function/none?usage=1")
    assert (answer.status_code, answer.content) == (404, b"")


async def test_the_list_without_functions_is_empty_and_not_null(client: AsyncClient) -> None:
    answer = await client.get("/system/functions")
    assert (answer.status_code, answer.text) == (200, "[]")
    assert answer.headers["content-type"] == "application/json"


async def test_many_functions_are_listed_in_order_in_one_array(client: AsyncClient) -> None:
    names = [f"f-{n:03d}" for n in range(250)]
    for name in names:
        await client.post("/system/functions", json={"service": name, "image": "i"})
    assert [f["name"] for f in (await client.get("/system/functions")).json()] == names


async def test_a_list_has_the_functions_of_one_namespace(client: AsyncClient) -> None:
    await client.post("/system/namespace/", json={"name": "blue"})
    await client.post("/system/functions", json=DEPLOYMENT | {"namespace": "blue"})
    assert (await client.get("/system/functions")).json() == []
    assert len((await client.get("/system/functions?namespace=blue")).json()) == 1
    assert (await client.get("/system/functions?namespace=")).json() == []


async def test_listing_an_unknown_namespace_is_a_404_that_names_it(client: AsyncClient) -> None:
    answer = await client.get("/system/functions?namespace=bleu")
    assert answer.status_code == 404
    assert "'bleu'" in answer.text


async def test_a_delete_takes_the_name_from_its_body(client: AsyncClient, platform: FakePlatform) -> None:
    await client.post("/system/functions", json=DEPLOYMENT)
    body = {"functionName": "echo", "namespace": ""}
    answer = await client.request("DELETE", "/system/functions", json=body)
    assert (answer.status_code, platform.deployed) == (202, {})
    assert (await client.request("DELETE", "/system/functions", json=body)).status_code == 404


async def test_scaling_to_zero_is_allowed(client: AsyncClient, platform: FakePlatform) -> None:
    await client.post("/system/functions", json=DEPLOYMENT)
    body = {"serviceName": "echo", "replicas": 0, "namespace": "openfaas-fn"}
    answer = await client.post("/system/scale-function/echo", json=body)
    assert answer.status_code == 202
    assert platform.deployed[function_id("echo")].replicas == 0
    assert (await client.post("/system/scale-function/none", json=body | {"serviceName": "none"})).status_code == 404


async def test_the_number_of_replicas_may_be_text(client: AsyncClient, platform: FakePlatform) -> None:
    await client.post("/system/functions", json=DEPLOYMENT)
    answer = await client.post("/system/scale-function/echo", json={"serviceName": "echo", "replicas": "2"})
    assert (answer.status_code, platform.deployed[function_id("echo")].replicas) == (202, 2)


@pytest.mark.parametrize("replicas", [-1, "-1", "many", "", "1.5", None, 1.5])
async def test_scaling_to_something_other_than_a_number_is_refused(client: AsyncClient, replicas: object) -> None:
    answer = await client.post("/system/scale-function/echo", json={"replicas": replicas})
    assert answer.status_code == 400
    assert "replicas" in answer.text


async def test_a_function_may_be_named_with_its_namespace(client: AsyncClient, platform: FakePlatform) -> None:
    await client.post("/system/namespace/blue")
    await client.post("/system/functions", json=DEPLOYMENT | {"namespace": "blue"})
    assert (await client.get("/system/function/echo.blue")).json()["namespace"] == "blue"
    assert (await client.get("/system/function/echo?namespace=blue")).status_code == 200
    assert (await client.post("/system/scale-function/echo.blue", json={"replicas": 2})).status_code == 202


async def test_null_as_go_sends_it_means_empty(client: AsyncClient, platform: FakePlatform) -> None:
    nulls = dict.fromkeys(("namespace", "envProcess", "envVars", "labels", "annotations", "secrets", "limits"))
    answer = await client.post("/system/functions", json={"service": "echo", "image": "i"} | nulls)
    assert answer.status_code == 202
    assert platform.deployed[function_id("echo")].function.spec.labels == {}


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/x-www-form-urlencoded"])
async def test_json_is_read_under_any_content_type(client: AsyncClient, content_type: str) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    answer = await client.post("/system/functions", content=json.dumps(DEPLOYMENT), headers=headers)
    assert answer.status_code == 202


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"service": "echo",}', ["not valid JSON"]),
        (b"", ["not valid JSON"]),
        (b"[]", ["expected an object"]),
        (b'{"service": "echo"}', ["image: is missing"]),
        (b'{"service": "echo", "image": 5}', ["image: expected text"]),
        (b'{"service": "echo", "image": "i", "envVars": {"A": 1}}', ["envVars.A: expected text"]),
        (b'{"service": "echo", "image": "i", "labels": ["x"]}', ["labels: expected an object"]),
        (b'{"service": "Echo!", "image": "i"}', ["'Echo!'", "a-z"]),
        (b'{"service": "echo", "image": "i", "labels": {"com.openfaas.scale.min": "x"}}', ["scale.min", "'x'"]),
        (b"\xff\xfe", ["not valid JSON"]),
        (b"[" * 100_000, ["not valid JSON"]),
    ],
)
@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_a_bad_deployment_is_a_400_that_names_the_field(
    client: AsyncClient, method: str, body: bytes, words: list[str]
) -> None:
    answer = await client.request(method, "/system/functions", content=body)
    assert answer.status_code == 400
    assert answer.headers["content-type"].startswith("text/plain")
    for word in words:
        assert word in answer.text


async def test_the_response_does_not_repeat_a_refused_body(client: AsyncClient) -> None:
    body = b'{"service": "echo", "image": "i", "envVars": {"TOKEN": ["s3cret"]}}'
    answer = await client.post("/system/functions", content=body)
    assert answer.status_code == 400
    assert "s3cret" not in answer.text


async def test_an_unknown_image_is_a_400_with_a_message(client: AsyncClient) -> None:
    answer = await client.post("/system/functions", json=DEPLOYMENT | {"image": "unknown/x"})
    assert (answer.status_code, answer.text) == (400, "This image was not built or uploaded here.")


async def test_a_body_of_more_than_a_mebibyte_is_413(client: AsyncClient) -> None:
    answer = await client.post("/system/functions", content=b" " * (2**20 + 1))
    assert answer.status_code == 413
    assert "1048576 bytes" in answer.text


async def test_a_busy_platform_says_when_to_retry(client: AsyncClient, platform: FakePlatform) -> None:
    platform.failure = Busy("no room", retry_after=1.2)
    answer = await client.get("/system/status")
    assert (answer.status_code, answer.text, answer.headers["retry-after"]) == (503, "no room", "2")


async def test_an_unexpected_error_does_not_reveal_its_cause(client: AsyncClient, platform: FakePlatform) -> None:
    platform.failure = RuntimeError("s3cret")
    answer = await client.get("/system/status")
    assert answer.status_code == 500
    assert "s3cret" not in answer.text
    assert answer.headers["content-type"].startswith("text/plain")
