"""The edge refuses requests without a login before the API sees them; against a real HAProxy."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator

import pytest

from rescoldo.edge.haproxy import HaproxyEdge
from rescoldo.edge.protocol import EdgeState, Route
from rescoldo.model.access import login_key
from rescoldo.model.names import FunctionId, SlotName, function_id
from support.real_edge import S1, Client, RealEdge

FN = function_id("fn")
USER, PASSWORD = "admin", "pass:wört"


def basic(text: str, scheme: str = "Basic ") -> dict[str, str]:
    return {"Authorization": scheme + base64.b64encode(text.encode()).decode()}


RIGHT = basic(f"{USER}:{PASSWORD}")


@pytest.fixture
async def guarded() -> AsyncIterator[RealEdge]:
    """An edge that asks for a login."""
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
async def test_a_request_without_a_login_is_refused(guarded: RealEdge, path: str, headers: dict[str, str]) -> None:
    answer = await guarded.call(path, headers=headers)
    assert (answer.status, answer.headers["www-authenticate"]) == (401, 'Basic realm="Restricted"')
    assert answer.text == "unauthorized: send the gateway's user and password\n"
    assert guarded.api == []


@pytest.mark.parametrize("scheme", ["Basic ", "bAsIc ", "Basic   "])
async def test_a_request_with_the_login_reaches_the_api(guarded: RealEdge, scheme: str) -> None:
    right = basic(f"{USER}:{PASSWORD}", scheme)
    assert (await guarded.call("/system/functions", headers=right)).text == "api /system/functions"


@pytest.mark.parametrize("path", ["/", "/healthz", "/async-function/fn", "/healthz?x=1"])
async def test_open_paths_need_no_login(guarded: RealEdge, path: str) -> None:
    assert (await guarded.call(path)).text == f"api {path}"


async def test_a_new_edge_leaves_logins_to_the_api_until_a_synchronisation(guarded: RealEdge) -> None:
    await guarded.restart()
    assert (await guarded.call("/system/functions")).status == 200
    await guarded.edge.synchronise(lambda: EdgeState((), ()))
    assert (await guarded.call("/system/functions")).status == 401


async def test_an_edge_without_a_login_lets_every_request_through() -> None:
    async with RealEdge() as real:
        await real.edge.synchronise(lambda: EdgeState((), ()))
        assert (await real.call("/system/functions")).status == 200


async def test_uploads_without_a_login_take_no_connection_of_the_api(guarded: RealEdge) -> None:
    waiting: list[Client] = []
    for _ in range(1000):  # more than the API's connections
        client = await guarded.connect()
        client.send("/system/functions", method="POST", headers={"Content-Length": "100"})
        waiting.append(client)
    assert {(await client.receive()).status for client in waiting} == {401}
    assert (await guarded.call("/system/functions", headers=RIGHT)).status == 200


async def test_health_is_answered_while_the_api_is_full() -> None:
    async with RealEdge() as real:
        waiting: list[Client] = []
        for _ in range(950):
            client = await real.connect()
            client.send("/system/functions", method="POST", headers={"Content-Length": "100"})
            waiting.append(client)
        await real.until(lambda: real.api_connections >= 900)
        assert (await real.call("/healthz")).status == 200


# -- headers that reach a function


@pytest.mark.parametrize("asleep", [True, False])
@pytest.mark.parametrize(
    ("headers", "kept"), [(RIGHT, False), (basic(f"{USER}:own"), True), ({"Authorization": "Bearer own"}, True)]
)
async def test_a_function_gets_its_own_logins_and_never_the_platforms(
    guarded: RealEdge, headers: dict[str, str], kept: bool, asleep: bool
) -> None:
    one = await guarded.place("s1", "one")

    async def wake(_: FunctionId) -> SlotName:
        return S1

    guarded.wake = wake
    await guarded.edge.set_route(Route(FN, None if asleep else S1))
    await guarded.call("/function/fn", headers=headers)
    (request,) = one.requests
    assert request.headers.get("authorization") == (headers["Authorization"] if kept else None)


CLAIMS = {
    "X-Forwarded-For": "192.0.2.7", "X-Forwarded-Host": "there", "X-Forwarded-Proto": "https", "Forwarded": "for=x",
}  # fmt: skip


@pytest.mark.parametrize(
    ("proxies", "believed"), [((), True), (("127.0.0.0/8",), True), (("10.0.0.0/8", "192.0.2.1"), False)]
)
async def test_only_trusted_proxies_may_set_forwarded_headers(proxies: tuple[str, ...], believed: bool) -> None:
    async with RealEdge(trusted_proxies=proxies) as real:
        one = await real.place("s1", "one")
        await real.edge.set_route(Route(FN, S1))
        await real.call("/function/fn", headers=CLAIMS)
        (request,) = one.requests
    told = [request.headers.get(name.lower()) for name in CLAIMS]
    assert told == (list(CLAIMS.values()) if believed else ["127.0.0.1", "gateway", "http", None])
