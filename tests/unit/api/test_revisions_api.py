"""/system/function/NAME/revisions, rollback and traffic."""

from __future__ import annotations

from typing import Any

import pytest
from fake_platform import FakePlatform
from httpx2 import AsyncClient

from rescoldo.model.names import function_id

PATH = "/system/function/echo"
DEPLOYMENT = {"service": "echo", "image": "me/echo:1"}


@pytest.fixture
async def deployed(client: AsyncClient) -> AsyncClient:
    assert (await client.post("/system/functions", json=DEPLOYMENT)).status_code == 202
    return client


async def test_revisions_are_listed_with_state_share_and_reason(deployed: AsyncClient) -> None:
    answer = await deployed.get(f"{PATH}/revisions")
    failed, serving = answer.json()
    asked = serving.pop("deployment")
    assert (asked["service"], asked["image"], asked["envVars"]) == ("echo", "me/echo:1", {})
    assert serving == {
        "revision": 1, "createdAt": "2023-11-14T22:13:20Z", "image": "me/echo:1", "digest": "a" * 64,
        "state": "serving", "reason": "", "current": True, "traffic": 100, "replicas": 2,
    }
    assert (failed["state"], failed["reason"]) == ("failed", "exit code 1\nValueError: no")


@pytest.mark.parametrize(("body", "revision"), [({}, None), ({"revision": 3}, 3), (None, None)])
async def test_a_rollback_returns_the_new_current_revision(
    deployed: AsyncClient, platform: FakePlatform, body: Any, revision: int | None
) -> None:
    answer = await deployed.post(f"{PATH}/rollback", **({"json": body} if body is not None else {}))
    assert (answer.status_code, answer.json()) == (200, {"revision": 6})
    assert platform.asked == [(function_id("echo"), revision)]


async def test_a_rollback_that_does_not_start_is_a_400_with_a_header_of_its_own(deployed: AsyncClient) -> None:
    answer = await deployed.post(f"{PATH}/rollback", json={"revision": 9})
    assert (answer.status_code, answer.text) == (400, "revision 6 did not start")
    assert answer.headers["x-rescoldo-rollout"] == "failed"


async def test_a_split_is_passed_on(deployed: AsyncClient, platform: FakePlatform) -> None:
    answer = await deployed.put(f"{PATH}/traffic", json={"traffic": {"1": 90, "2": 10}})
    assert (answer.status_code, answer.content) == (202, b"")
    assert platform.asked == [(function_id("echo"), {2: 10, 1: 90})]


@pytest.mark.parametrize(
    "body", [{}, {"traffic": []}, {"traffic": {"one": 100}}, {"traffic": {"1": "most"}}, {"traffic": {"1": 99}}]
)
async def test_an_invalid_split_is_refused(deployed: AsyncClient, body: Any) -> None:
    answer = await deployed.put(f"{PATH}/traffic", json=body)
    assert answer.status_code == 400
    assert "x-rescoldo-rollout" not in answer.headers


@pytest.mark.parametrize(("method", "what"), [("GET", "revisions"), ("POST", "rollback"), ("PUT", "traffic")])
async def test_an_unknown_function_is_a_404(client: AsyncClient, method: str, what: str) -> None:
    body = {"traffic": {"1": 100}} if what == "traffic" else {}
    answer = await client.request(method, f"{PATH}/{what}", json=body)
    assert answer.status_code == 404


async def test_a_namespace_may_be_named(client: AsyncClient) -> None:
    answer = await client.get(f"{PATH}/revisions", params={"namespace": "blue"})
    assert (answer.status_code, "echo.blue" in answer.text) == (404, True)
