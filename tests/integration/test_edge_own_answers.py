"""The edge's own answers: each has an X-Call-Id, and pages of named origins may read it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest

from rescoldo.edge.protocol import EdgeState, LiveServer, Route
from rescoldo.model.errors import StartTimeout
from rescoldo.model.limits import Limits
from rescoldo.model.names import FunctionId, SlotName, function_id
from support.real_edge import S1, Message, RealEdge, ok

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]

FN = function_id("fn")
ROUTE = Route(FN, S1)
ORIGIN = "https://shop.example"
Answer = Callable[[RealEdge, Route, dict[str, str]], Coroutine[Any, Any, Message]]


@pytest.fixture
async def real() -> AsyncIterator[RealEdge]:
    async with RealEdge(limits=Limits(max_queue=3, max_response=1000)) as made:
        yield made


async def crash(_: Message) -> None:
    return None


async def silence(_: Message) -> bytes:
    await asyncio.sleep(30)
    return b""


async def too_long(_: Message) -> bytes:
    return ok("x" * 2000)


async def too_large(real: RealEdge, route: Route, headers: dict[str, str]) -> Message:
    await real.place("s1", "one")
    await real.edge.set_route(replace(route, max_body=3))
    return await real.call("/function/fn", method="POST", body=b"four", headers=headers)


async def answer_too_large(real: RealEdge, route: Route, headers: dict[str, str]) -> Message:
    await real.place("s1", "one", too_long)
    await real.edge.set_route(route)
    return await real.call("/function/fn", headers=headers)


async def no_place(real: RealEdge, route: Route, headers: dict[str, str]) -> Message:
    await real.place("s1", "one", silence, concurrency=1)
    await real.edge.set_route(replace(route, max_queue=0))
    first = asyncio.create_task(real.call("/function/fn"))

    async def there() -> bool:
        return (await real.edge.load(S1)).in_flight == 1

    await real.until(there)
    refused = await real.call("/function/fn", headers=headers)
    first.cancel()
    return refused


async def ended(real: RealEdge, route: Route, headers: dict[str, str]) -> Message:
    await real.place("s1", "one", crash)
    await real.edge.set_route(route)
    return await real.call("/function/fn", method="POST", headers=headers)


async def paused(real: RealEdge, route: Route, headers: dict[str, str]) -> Message:
    await real.edge.set_route(replace(route, slot=None, paused=True))
    return await real.call("/function/fn", headers=headers)


async def not_woken(real: RealEdge, route: Route, headers: dict[str, str]) -> Message:
    async def wake(_: FunctionId) -> SlotName:
        raise StartTimeout("fn: it was not ready after 1 s")

    real.wake = wake
    await real.edge.set_route(replace(route, slot=None))
    return await real.call("/function/fn", headers=headers)


async def no_answer(real: RealEdge, route: Route, headers: dict[str, str]) -> Message:
    await real.place("s1", "one", silence)
    await real.edge.set_route(replace(route, response_timeout=0.2))
    return await real.call("/function/fn", headers=headers)


REFUSED = pytest.mark.parametrize(
    ("status", "provoke"),
    [(413, too_large), (413, answer_too_large), (429, no_place), (502, ended), (503, paused), (504, not_woken),
     (504, no_answer)],
)  # fmt: skip


@REFUSED
async def test_the_edges_answer_to_a_call_has_a_call_id(real: RealEdge, status: int, provoke: Answer) -> None:
    answer = await provoke(real, ROUTE, {})
    assert answer.status == status
    assert len(answer.headers["x-call-id"]) == 36
    assert not [name for name in answer.headers if name.startswith("access-control-")]


async def test_answers_to_unknown_names_and_of_the_platforms_routes_have_a_call_id(real: RealEdge) -> None:
    await real.edge.synchronise(lambda: EdgeState((), ()))
    answers = [await real.call(path) for path in ("/function/none", "/function/", "/system/functions", "/-/metrics")]
    assert [answer.status for answer in answers] == [404, 400, 200, 404]
    ids = [answer.headers["x-call-id"] for answer in answers]
    assert len(set(ids)) == 4
    assert {len(one) for one in ids} == {36}


async def test_a_held_call_has_the_same_id_at_client_and_function(real: RealEdge) -> None:
    one = await real.place("s1", "one")

    async def wake(_: FunctionId) -> SlotName:
        return S1

    real.wake = wake
    answer = await real.call("/function/fn")
    assert answer.headers["x-cold-start"] == "true"
    assert answer.headers["x-call-id"] == one.requests[0].headers["x-call-id"]


@pytest.mark.parametrize(
    ("allowed", "origin", "wanted"),
    [
        (("*",), ORIGIN, "*"),
        ((ORIGIN,), ORIGIN, ORIGIN),
        (("http://localhost:3000", ORIGIN, "https://c.example"), ORIGIN, ORIGIN),
        ((ORIGIN,), "https://other.example", None),
        ((ORIGIN,), "https://shop.example.evil.example", None),
        ((ORIGIN,), f"x,{ORIGIN}", None),
        ((ORIGIN,), f"x|{ORIGIN}", None),
        ((ORIGIN,), None, None),
    ],
)
async def test_pages_of_named_origins_may_read_the_edges_answer(
    real: RealEdge, allowed: tuple[str, ...], origin: str | None, wanted: str | None
) -> None:
    headers = {} if origin is None else {"Origin": origin}
    answer = await paused(real, replace(ROUTE, cors=allowed), headers)
    assert answer.headers.get("access-control-allow-origin") == wanted
    assert answer.headers.get("vary") == (None if allowed == ("*",) else "Origin")
    assert "X-Call-Id" in answer.headers["access-control-expose-headers"]


@REFUSED
async def test_pages_may_read_every_answer_of_the_edge(real: RealEdge, status: int, provoke: Answer) -> None:
    answer = await provoke(real, replace(ROUTE, cors=(ORIGIN,)), {"Origin": ORIGIN})
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (status, ORIGIN)


async def test_a_functions_own_answers_stay_unchanged(real: RealEdge) -> None:
    async def own(request: Message) -> bytes:
        return ok("mine").replace(b"200 OK", b"404 Not Found")

    await real.place("s1", "one", own)
    await real.edge.set_route(replace(ROUTE, cors=("*",)))
    for method in ("GET", "OPTIONS"):
        answer = await real.call("/function/fn", method=method, headers={"Origin": ORIGIN})
        assert (answer.status, answer.text) == (404, "mine")
        assert "access-control-allow-origin" not in answer.headers
        assert "vary" not in answer.headers


async def test_cors_outlives_the_edge_and_ends_with_the_annotation(real: RealEdge) -> None:
    route = replace(ROUTE, slot=None, paused=True, cors=("*",))
    await real.edge.set_route(route)
    await real.restart()
    await real.edge.synchronise(lambda: EdgeState((route,), tuple[LiveServer, ...]()))
    headers = {"Origin": ORIGIN}
    assert (await real.call("/function/fn", headers=headers)).headers["access-control-allow-origin"] == "*"
    await real.edge.set_route(replace(route, cors=()))
    assert "access-control-allow-origin" not in (await real.call("/function/fn", headers=headers)).headers
