"""The edge refuses those without a login before the API sees them; against a real HAProxy."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator

import pytest

from real_edge import Client, RealEdge
from rescoldo.edge.haproxy import HaproxyEdge
from rescoldo.edge.protocol import EdgeState
from rescoldo.model.access import login_key

USER, PASSWORD = "admin", "pass:wört"


def basic(text: str, scheme: str = "Basic ") -> dict[str, str]:
    return {"Authorization": scheme + base64.b64encode(text.encode()).decode()}


RIGHT = basic(f"{USER}:{PASSWORD}")


@pytest.fixture
async def guarded() -> AsyncIterator[RealEdge]:
    """It asks for a login."""
    async with RealEdge() as real:
        real.edge = HaproxyEdge(real.settings, login_key(USER, PASSWORD))
        await real.edge.synchronise(lambda: EdgeState((), ()))
        yield real


@pytest.mark.parametrize(
    "path", ["/system/functions", "/ui/", "/system", "/healthz/", "//healthz", "/metrics", "/%2d/metrics"]
)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Basic"},
        {"Authorization": "Basic !!"},
        {"Authorization": "Bearer " + RIGHT["Authorization"][6:]},
        basic(f"{USER}:wrong"),
        basic(f"{USER}:{PASSWORD}", "Digest "),
    ],
    ids=["nothing", "no value", "no base64", "another scheme", "wrong password", "Digest"],
)
async def test_who_has_no_login_is_refused(guarded: RealEdge, path: str, headers: dict[str, str]) -> None:
    answer = await guarded.call(path, headers=headers)
    assert (answer.status, answer.headers["www-authenticate"]) == (401, 'Basic realm="Restricted"')
    assert answer.text == "unauthorized: send the gateway's user and password\n"
    assert guarded.api == []


@pytest.mark.parametrize("scheme", ["Basic ", "bAsIc ", "Basic   "])
async def test_who_has_one_reaches_the_api(guarded: RealEdge, scheme: str) -> None:
    right = basic(f"{USER}:{PASSWORD}", scheme)
    assert (await guarded.call("/system/functions", headers=right)).text == "api /system/functions"


@pytest.mark.parametrize("path", ["/", "/healthz", "/async-function/fn", "/healthz?x=1"])
async def test_open_paths_need_none(guarded: RealEdge, path: str) -> None:
    assert (await guarded.call(path)).text == f"api {path}"


async def test_a_new_edge_leaves_it_to_the_api_until_it_has_been_told(guarded: RealEdge) -> None:
    await guarded.restart()
    assert (await guarded.call("/system/functions")).status == 200
    await guarded.edge.synchronise(lambda: EdgeState((), ()))
    assert (await guarded.call("/system/functions")).status == 401


async def test_without_a_login_all_are_let_through() -> None:
    async with RealEdge() as real:
        await real.edge.synchronise(lambda: EdgeState((), ()))
        assert (await real.call("/system/functions")).status == 200


async def test_uploads_without_a_login_keep_nobody_waiting(guarded: RealEdge) -> None:
    waiting: list[Client] = []
    for _ in range(1000):  # more than the API takes at once
        client = await guarded.connect()
        client.send("/system/functions", method="POST", headers={"Content-Length": "100"})
        waiting.append(client)
    assert {(await client.receive()).status for client in waiting} == {401}
    assert (await guarded.call("/system/functions", headers=RIGHT)).status == 200


async def test_health_is_answered_while_the_api_has_all_it_takes() -> None:
    async with RealEdge() as real:
        waiting: list[Client] = []
        for _ in range(950):
            client = await real.connect()
            client.send("/system/functions", method="POST", headers={"Content-Length": "100"})
            waiting.append(client)
        await real.until(lambda: real.api_connections >= 900)
        assert (await real.call("/healthz")).status == 200
