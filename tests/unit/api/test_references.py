"""Every route accepts the namespace wherever some version of a client puts it, and refuses two that differ."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fake_platform import FakePlatform
from httpx2 import AsyncClient, Response

from rescoldo.model.names import DEFAULT_NAMESPACE, FunctionId, function_id

IMAGE = "me/fn:1"
DEPLOYMENT = {"service": "fn", "image": IMAGE}
HERE, THERE = function_id("fn"), function_id("fn", "blue")
DONE = (200, 202)


class Route:
    """A route, with the places where it accepts the name of a function (or a secret) and a namespace."""

    def __init__(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, name: str = "", refused: int = 400
    ) -> None:
        """NAME in `path` stands for a name; `name` is the body's field for it."""
        self.method, self.path, self.body, self.name, self.refused = method, path, body, name, refused

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def takes_references(self) -> bool:
        """Whether the route accepts NAME.NAMESPACE: a secret's name may itself contain a dot."""
        return "secrets" not in self.path and (bool(self.name) or "NAME" in self.path)

    async def ask(
        self, client: AsyncClient, *, query: str | list[str] = "", body: str = "", behind: str = ""
    ) -> Response:
        """Send the request with a namespace in the query, in the body and after the name."""
        name = f"fn.{behind}" if behind else "fn"
        content = None
        if self.body is not None:
            content = self.body | ({self.name: name} if self.name else {}) | ({"namespace": body} if body else {})
        params = [("namespace", one) for one in ([query] if isinstance(query, str) else query) if one]
        path, _, rest = self.path.replace("NAME", name).partition("?")
        params += [tuple(part.split("=")) for part in rest.split("&") if part]  # type: ignore[misc]
        return await client.request(self.method, path, params=params, json=content)


ROUTES = [
    Route("GET", "/system/functions"),
    Route("POST", "/system/functions", DEPLOYMENT, name="service"),
    Route("PUT", "/system/functions", DEPLOYMENT, name="service"),
    Route("DELETE", "/system/functions", {}, name="functionName"),
    Route("GET", "/system/function/NAME"),
    Route("POST", "/system/scale-function/NAME", {"replicas": 3}),
    Route("POST", "/system/function/NAME/pause", {}),
    Route("POST", "/system/function/NAME/resume", {}),
    Route("GET", "/system/function/NAME/revisions"),
    Route("POST", "/system/function/NAME/rollback", {"revision": 1}),
    Route("PUT", "/system/function/NAME/traffic", {"traffic": {"1": 100}}),
    Route("GET", "/system/logs?name=NAME", refused=422),  # the contract's status for any bad query of logs
    Route("GET", "/system/secrets"),
    Route("POST", "/system/secrets", {"name": "new", "value": "v"}),
    Route("PUT", "/system/secrets", {"name": "key", "value": "v"}),
    Route("DELETE", "/system/secrets", {"name": "key"}),
]
EVERY = pytest.mark.parametrize("route", ROUTES, ids=str)


@pytest.fixture
async def two(client: AsyncClient, platform: FakePlatform) -> FakePlatform:
    """A function `fn` and a secret `key` in the default namespace and in `blue`."""
    await client.post("/system/namespace/blue")
    for place in (DEFAULT_NAMESPACE, "blue"):
        await client.post("/system/secrets", json={"name": "key", "namespace": place, "value": place})
        answer = await client.post("/system/functions", json=DEPLOYMENT | {"namespace": place})
        assert answer.status_code == 202
    return platform


def _state(platform: FakePlatform) -> dict[str, Any]:
    """Everything that a route may change, by namespace."""

    def of(place: str, key: FunctionId) -> Any:
        secrets = {name: value for (space, name), value in platform.kept_secrets.items() if space == place}
        return platform.deployed.get(key), secrets, [what for who, what in platform.asked if who == key]

    return {DEFAULT_NAMESPACE: of(DEFAULT_NAMESPACE, HERE), "blue": of("blue", THERE)}


def _places(route: Route) -> list[dict[str, Any]]:
    places: list[dict[str, Any]] = [{"query": "blue"}]
    if route.body is not None:
        places += [{"body": "blue"}, {"query": "blue", "body": "blue"}]
    if route.takes_references:
        places += [{"behind": "blue"}, {"behind": "blue", "query": "blue"}]
    return places


@EVERY
async def test_a_namespace_is_accepted_in_each_place(client: AsyncClient, two: FakePlatform, route: Route) -> None:
    for place in _places(route):
        before = _state(two)
        answer = await route.ask(client, **place)
        assert answer.status_code in DONE, (place, answer.text)
        assert _state(two)[DEFAULT_NAMESPACE] == before[DEFAULT_NAMESPACE], f"{place}: the other function was changed"
        await _restore(client, two)


@EVERY
async def test_two_namespaces_that_differ_are_refused_and_change_nothing(
    client: AsyncClient, two: FakePlatform, route: Route
) -> None:
    pairs: list[dict[str, Any]] = [{"query": ["blue", DEFAULT_NAMESPACE]}]
    if route.body is not None:
        pairs += [{"query": "blue", "body": DEFAULT_NAMESPACE}, {"query": DEFAULT_NAMESPACE, "body": "blue"}]
    if route.takes_references:
        pairs += [{"behind": "blue", "query": DEFAULT_NAMESPACE}, {"behind": DEFAULT_NAMESPACE, "query": "blue"}]
    if route.takes_references and route.body is not None:
        pairs.append({"behind": "blue", "body": DEFAULT_NAMESPACE})
    before = _state(two)
    for pair in pairs:
        answer = await route.ask(client, **pair)
        assert (answer.status_code, "two namespaces" in answer.text) == (route.refused, True), (pair, answer.text)
    assert _state(two) == before


@EVERY
async def test_without_a_namespace_the_default_one_is_used(
    client: AsyncClient, two: FakePlatform, route: Route
) -> None:
    before = _state(two)
    assert (await route.ask(client)).status_code in DONE
    assert _state(two)["blue"] == before["blue"]


async def test_every_route_of_functions_and_secrets_is_in_the_table(client: AsyncClient) -> None:
    paths = (await client.get("/system/openapi.json")).json()["paths"]
    known = {(route.method, route.path.partition("?")[0].replace("NAME", "{name}")) for route in ROUTES}
    words = ("function", "secrets", "logs")
    found = {(method.upper(), path) for path, of in paths.items() for method in of if any(w in path for w in words)}
    assert found <= known


async def test_scaling_refuses_another_name_in_the_body(client: AsyncClient, two: FakePlatform) -> None:
    answer = await client.post("/system/scale-function/fn", json={"serviceName": "other", "replicas": 2})
    assert (answer.status_code, "'other'" in answer.text) == (400, True)
    for path, body in (("fn", "fn.blue"), ("fn.blue", "fn"), ("fn.blue", "fn.blue")):
        answer = await client.post(f"/system/scale-function/{path}", json={"serviceName": body, "replicas": 7})
        assert answer.status_code == 202, answer.text
    assert (two.deployed[THERE].replicas, two.deployed[HERE].replicas) == (7, 1)


@pytest.mark.parametrize("name", ["fn.", ".", ".blue", "fn..blue", "a.b.c"])
async def test_a_dot_needs_a_name_before_it_and_a_namespace_after_it(client: AsyncClient, name: str) -> None:
    assert (await client.request("DELETE", "/system/functions", json={"functionName": name})).status_code == 400


@pytest.mark.parametrize(("method", "status"), [("POST", 201), ("PUT", 202), ("DELETE", 202)])
async def test_a_namespace_is_named_by_its_path_or_its_body(
    client: AsyncClient, platform: FakePlatform, method: str, status: int
) -> None:
    places: list[Callable[[], Any]] = [
        lambda: client.request(method, "/system/namespace/", json={"name": "blue"}),
        lambda: client.request(method, "/system/namespace/blue", json={"name": "blue"}),
    ]
    for ask in places:
        platform.spaces.pop("blue", None)
        if method != "POST":
            await client.post("/system/namespace/blue")
        assert (await ask()).status_code == status
    answer = await client.request(method, "/system/namespace/blue", json={"name": "green"})
    assert answer.status_code == 400


async def _restore(client: AsyncClient, platform: FakePlatform) -> None:
    """Restore what an accepted request removed."""
    platform.kept_secrets.pop(("blue", "new"), None)
    platform.kept_secrets["blue", "key"] = b"blue"
    if THERE not in platform.deployed:
        await client.post("/system/functions", json=DEPLOYMENT | {"namespace": "blue"})
