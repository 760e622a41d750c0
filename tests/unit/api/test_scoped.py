"""Which function a request is about, and who answers it in a cluster."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httpx2
import pytest
from fake_platform import FakePlatform

from rescoldo.api.app import create_app
from rescoldo.api.credentials import Credentials
from rescoldo.api.forwarding import Forwarding
from rescoldo.api.lookup import LookUp
from rescoldo.cluster.protocol import Answered, Asked, NoOwner
from rescoldo.model.names import FunctionId, function_id
from rescoldo.model.settings import Settings
from rescoldo.store.protocol import Bundle

FN = function_id("fn")
DEPLOYMENT = {"service": "fn", "image": "me/fn:1"}
LOGIN = ("admin", "secret")


@dataclass
class FakeOwners:
    """Owners that answer as a test wants."""

    status: int = 200
    body: bytes = b"from its owner"
    headers: dict[str, str] = field(default_factory=dict)
    away: bool = False
    asked: list[Asked] = field(default_factory=list)

    @asynccontextmanager
    async def ask(self, asked: Asked) -> AsyncIterator[Answered]:
        self.asked.append(asked)
        if self.away:
            raise NoOwner("nobody answers")

        async def chunks() -> AsyncIterator[bytes]:
            yield self.body

        yield Answered(self.status, self.headers, chunks())


@dataclass
class Control:
    platform: FakePlatform
    owners: FakeOwners = field(default_factory=FakeOwners)
    settled: list[FunctionId] = field(default_factory=list)
    awake: set[FunctionId] = field(default_factory=set)
    unowned: list[FunctionId] = field(default_factory=list)
    calls: int = 0

    async def settle(self, function: FunctionId) -> None:
        self.settled.append(function)

    def client(self) -> httpx2.AsyncClient:
        forwarding = partial(
            Forwarding, owners=self.owners, settle=self.settle, calls=lambda _: self.calls,
            is_awake=self.awake.__contains__, on_unowned=self.unowned.append,
        )  # fmt: skip
        settings = Settings("/data", "/run")
        app = create_app(self.platform.ports(), settings, Credentials(*LOGIN), b"", [forwarding])
        return httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://control", auth=LOGIN)


@pytest.fixture
def control() -> Control:
    found = Control(FakePlatform())
    found.platform.images["me/fn:1"] = Bundle("me/fn:1", "a" * 64, 10, 1.0, 1)
    return found


REQUESTS: list[tuple[str, str, Any]] = [
    ("POST", "/system/functions", DEPLOYMENT),
    ("PUT", "/system/functions", DEPLOYMENT),
    ("DELETE", "/system/functions", {"functionName": "fn"}),
    ("GET", "/system/function/fn", None),
    ("GET", "/system/function/fn.openfaas-fn?usage=1", None),
    ("GET", "/system/function/fn/revisions", None),
    ("POST", "/system/function/fn/rollback", {"revision": 1}),
    ("PUT", "/system/function/fn/traffic", {"traffic": {"1": 100}}),
    ("POST", "/system/function/fn/pause", None),
    ("POST", "/system/scale-function/fn", {"serviceName": "fn", "replicas": 2}),
    ("GET", "/system/logs?name=fn&follow=1", None),
]


@pytest.mark.parametrize(("method", "target", "body"), REQUESTS)
async def test_the_owner_answers(control: Control, method: str, target: str, body: Any) -> None:
    control.owners.status, control.owners.headers = 418, {"x-rescoldo-rollout": "failed", "server": "x"}
    async with control.client() as client:
        answer = await client.request(method, target, json=body)
    assert (answer.status_code, answer.content) == (418, b"from its owner")
    assert answer.headers["x-rescoldo-rollout"] == "failed"
    assert "server" not in answer.headers
    (asked,) = control.owners.asked
    assert (asked.function, asked.method, asked.target) == (FN, method, target)
    assert json.loads(asked.body or b"null") == body
    assert control.settled == ([] if method == "GET" else [FN])
    assert control.platform.deployed == {}


async def test_a_login_is_asked_for_first_and_stays_here(control: Control) -> None:
    async with control.client() as client:
        assert (await client.get("/system/function/fn", auth=("admin", "wrong"))).status_code == 401
        assert control.owners.asked == []
        await client.get("/system/function/fn")
    assert "authorization" not in control.owners.asked[0].headers


@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        ("GET", "/system/functions", None),
        ("GET", "/system/info", None),
        ("GET", "/system/secrets", None),
        ("GET", "/system/namespaces", None),
        ("POST", "/system/functions", {"image": "me/fn:1"}),  # names no function
        ("POST", "/system/functions", {"service": "NO", "image": "me/fn:1"}),
        ("POST", "/system/functions?namespace=a", {**DEPLOYMENT, "namespace": "b"}),
    ],
)
async def test_other_requests_stay_in_control(control: Control, method: str, target: str, body: Any) -> None:
    async with control.client() as client:
        answer = await client.request(method, target, json=body)
    assert control.owners.asked == []
    assert answer.content != b"from its owner"


async def test_an_immediate_deployment_is_saved_by_control_and_its_owner_hears_of_it(control: Control) -> None:
    async with control.client() as client:
        assert (await client.post("/system/functions?rollout=immediate", json=DEPLOYMENT)).status_code == 202
        assert FN in control.platform.deployed
        (asked,) = control.owners.asked
        assert (asked.method, asked.target) == ("GET", "/system/function/fn?namespace=openfaas-fn")
        control.owners.away = True
        assert control.unowned == []
        assert (await client.post("/system/functions?rollout=immediate", json=DEPLOYMENT)).status_code == 202
    assert control.unowned == [FN]


async def test_an_immediate_deployment_of_an_awake_function_goes_to_its_owner(control: Control) -> None:
    control.awake.add(FN)
    async with control.client() as client:
        await client.post("/system/functions?rollout=immediate", json=DEPLOYMENT)
    assert len(control.owners.asked) == 1


async def test_control_saves_what_no_owner_takes(control: Control) -> None:
    control.owners.away = True
    async with control.client() as client:
        assert (await client.post("/system/functions", json=DEPLOYMENT)).status_code == 202
        assert (await client.get("/system/function/fn")).json()["name"] == "fn"
        assert control.unowned == [FN]
        await client.request("DELETE", "/system/functions", json={"functionName": "fn"})
        assert control.unowned == [FN]


async def test_what_control_refuses_needs_no_owner(control: Control) -> None:
    control.owners.away = True
    async with control.client() as client:
        answer = await client.put("/system/functions", json=DEPLOYMENT)
    assert (answer.status_code, control.unowned) == (404, [])


async def test_an_owner_that_does_not_know_a_function_yet_is_not_believed(control: Control) -> None:
    control.owners.status = 404
    async with control.client() as client:
        assert (await client.post("/system/functions", json=DEPLOYMENT)).status_code == 202
        assert (await client.get("/system/function/fn")).status_code == 200
        assert (await client.get("/system/function/other")).status_code == 404


@pytest.mark.parametrize(("own", "all_", "shown"), [(3, 10, 10), (12, 10, 12)])
async def test_a_status_has_the_calls_of_all_workers(control: Control, own: int, all_: int, shown: int) -> None:
    control.owners.body, control.calls = json.dumps({"name": "fn", "invocationCount": own}).encode(), all_
    async with control.client() as client:
        assert (await client.get("/system/function/fn")).json() == {"name": "fn", "invocationCount": shown}


async def test_a_worker_looks_a_function_up_before_its_route_runs() -> None:
    platform, looked_up = FakePlatform(), []

    async def look_up(function: FunctionId) -> None:
        looked_up.append(function)

    app = create_app(platform.ports(), Settings("/data", "/run"), None, b"", [partial(LookUp, look_up=look_up)])
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://worker") as client:
        await client.get("/system/functions")
        await client.put("/system/functions", json=DEPLOYMENT)
        await client.get("/system/function/fn")
    assert looked_up == [FN, FN]
