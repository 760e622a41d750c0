"""The limits of functions that the edge enforces, against a real HAProxy with the shipped configuration."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from rescoldo.edge.protocol import LiveServer, Route, Share
from rescoldo.model.limits import Limits
from rescoldo.model.names import SlotName, function_id, revision_key
from support.real_edge import S1, Gate, Message, RealEdge, ok

FN = function_id("fn")
OTHER, S2 = function_id("other"), SlotName("s2")
OLD = revision_key(FN, 3)
LIMITS = Limits(max_queue=3, max_response=1000)


@pytest.fixture
async def real() -> AsyncIterator[RealEdge]:
    async with RealEdge(limits=LIMITS) as made:
        yield made


@pytest.fixture
async def hasty() -> AsyncIterator[RealEdge]:
    """An edge with a short limit of time in the queue."""
    async with RealEdge(limits=LIMITS, queue_timeout=0.3) as made:
        yield made


async def in_flight(real: RealEdge, count: int) -> list[asyncio.Task[Message]]:
    """Make `count` calls of `FN` that its slot holds without an answer."""
    calls = [asyncio.create_task(real.call("/function/fn")) for _ in range(count)]

    async def there() -> bool:
        return (await real.edge.load(S1)).in_flight == count

    await real.until(there)
    return calls


# -- bodies


@pytest.mark.parametrize("path", ["/function/fn", "/system/functions"])
@pytest.mark.parametrize("length", [2**31 + 5, 2**32 + 5, 2**63 - 1, 2**63, 2**63 + 5, 2**64 - 1, 2**64, 10**25])
@pytest.mark.parametrize("own", [None, 2 * 10**9])
async def test_the_edge_takes_no_huge_length_for_a_small_one(
    real: RealEdge, own: int | None, length: int, path: str
) -> None:
    one = await real.place("s1", "one")
    await real.edge.set_route(Route(FN, S1, max_body=own))
    client = await real.connect()
    client.send(path, method="POST", headers={"Content-Length": str(length)})
    async with asyncio.timeout(10):
        status = (await client.reader.readline()).split()[1]
    assert status in (b"413", b"400")  # 400 where HAProxy's parser gives up
    assert not one.connections


# -- the queue


@pytest.mark.parametrize("places", [0, 1, 2])
async def test_a_functions_queue_has_its_own_length(real: RealEdge, places: int) -> None:
    gate = Gate()
    await real.place("s1", "one", gate.respond, concurrency=2)
    await real.edge.set_route(Route(FN, S1, max_queue=places))
    calls = await in_flight(real, 2 + places)
    refused = await real.call("/function/fn")
    assert (refused.status, refused.headers["retry-after"]) == (429, "1")
    assert refused.headers["x-openfaas-internal"] == "proxy"
    assert refused.text == "too many requests are waiting for this function\n"
    gate.open.set()
    assert {answer.status for answer in await asyncio.gather(*calls)} == {200}
    assert (await real.call("/function/fn")).status == 200


async def test_without_a_queue_every_place_of_every_instance_is_used(real: RealEdge) -> None:
    gate = Gate()
    stubs = [await real.place("s1", name, gate.respond, concurrency=2) for name in ("one", "two", "three")]
    await real.edge.set_route(Route(FN, S1, max_queue=0))
    calls = await in_flight(real, 6)
    assert {(await real.call("/function/fn")).status for _ in range(5)} == {429}
    gate.open.set()
    assert {answer.status for answer in await asyncio.gather(*calls)} == {200}
    assert [stub.most_in_flight for stub in stubs] == [2, 2, 2]


async def test_without_a_queue_calls_one_after_another_are_never_refused(real: RealEdge) -> None:
    await real.place("s1", "one", concurrency=1)
    await real.edge.set_route(Route(FN, S1, max_queue=0))
    client = await real.connect()
    assert {(await client.call("/function/fn", method=m)).status for m in ("GET", "POST") * 100} == {200}


async def test_a_full_queue_of_one_function_leaves_others_alone(real: RealEdge) -> None:
    gate = Gate()
    await real.place("s1", "one", gate.respond, concurrency=1)
    await real.place("s2", "two", concurrency=1)
    await real.edge.set_route(Route(FN, S1, max_queue=0))
    await real.edge.set_route(Route(OTHER, S2, max_queue=0))
    calls = await in_flight(real, 1)
    assert (await real.call("/function/fn")).status == 429
    assert (await real.call("/function/other")).status == 200
    gate.open.set()
    await asyncio.gather(*calls)


async def test_a_call_beyond_max_inflight_gets_the_watchdogs_refusal(real: RealEdge) -> None:
    gate = Gate()
    await real.place("s1", "one", gate.respond, concurrency=2)
    await real.edge.set_route(Route(FN, S1, max_queue=0, max_inflight=2))
    calls = await in_flight(real, 2)
    refused = await real.call("/function/fn")
    assert (refused.status, refused.headers["retry-after"]) == (429, "1")
    assert refused.headers["x-openfaas-internal"] == "faas-middleware"
    assert refused.text == "Concurrent request limit exceeded. Max concurrent requests: 2\n"
    gate.open.set()
    await asyncio.gather(*calls)


async def test_a_request_that_waits_too_long_gets_503_with_retry_after(hasty: RealEdge) -> None:
    gate = Gate()
    one = await hasty.place("s1", "one", gate.respond, concurrency=1)
    await hasty.edge.set_route(Route(FN, S1))
    calls = await in_flight(hasty, 1)
    late = await hasty.call("/function/fn")
    assert (late.status, late.headers["retry-after"]) == (503, "1")
    assert late.text == "no instance could take the request in time\n"
    gate.open.set()
    await asyncio.gather(*calls)
    assert len(one.requests) == 1


async def test_removing_a_functions_limit_restores_the_platforms(real: RealEdge) -> None:
    gate = Gate()
    await real.place("s1", "one", gate.respond, concurrency=1)
    await real.edge.set_route(Route(FN, S1, max_queue=0, max_inflight=1))
    await real.edge.set_route(Route(FN, S1, max_queue=3))
    calls = await in_flight(real, 2)
    gate.open.set()
    assert {answer.status for answer in await asyncio.gather(*calls)} == {200}
    for name in ("queues", "inflight"):
        assert str(FN) not in await real.admin.run(f"show map {real.settings.edge / f'{name}.map'}")


async def test_limits_of_an_awake_function_can_be_set_and_removed(real: RealEdge) -> None:
    async def respond(_: Message) -> bytes:
        return ok("more than six")

    await real.place("s1", "one", respond)
    for limits, posted, answered in (
        ({}, 200, 200),
        ({"max_body": 5}, 413, 200),
        ({"max_response": 6}, 413, 413),
        ({"max_response": 2000, "max_inflight": 50}, 200, 200),
        ({}, 200, 200),
    ):
        await real.edge.set_route(Route(FN, S1, **limits))
        assert (await real.call("/function/fn", method="POST", body=b"x" * 6)).status == posted, limits
        assert (await real.call("/function/fn")).status == answered, limits
    assert f" {FN} s1\n" in await real.admin.run(f"show map {real.settings.edge / 'routes.map'}")


@pytest.mark.slow
async def test_with_a_concurrency_of_one_no_instance_ever_has_two_requests() -> None:
    """Requests that may be retried on kept connections and POSTs on their own connections, over three instances."""

    async def work(_: Message) -> bytes:
        await asyncio.sleep(0.002)
        return ok("done")

    async with RealEdge() as real:
        stubs = [await real.place("s1", name, work, concurrency=1) for name in ("one", "two", "three")]
        await real.edge.set_route(Route(FN, S1))

        async def client(number: int) -> set[int]:
            kept = await real.connect()
            methods = ("GET", "POST", "PUT", "PATCH")
            return {(await kept.call("/function/fn", method=methods[(number + n) % 4])).status for n in range(40)}

        assert set().union(*await asyncio.gather(*(client(n) for n in range(12)))) == {200}
        assert [stub.most_in_flight for stub in stubs] == [1, 1, 1]
        assert sum(len(stub.requests) for stub in stubs) == 480


# -- answers


def answers(length: int | str) -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n".encode() + b"x" * 1001


@pytest.mark.parametrize(
    ("own", "length", "status"),
    [
        (None, 1000, 200),
        (None, 1001, 413),
        (10, 10, 200),
        (10, 11, 413),
        (0, 1001, 200),
        (2000, 1001, 200),
        (10, 2**31 + 5, 413),
        (10, 2**32 + 5, 413),
        (5 * 2**30, 2**33, 413),
        (10, 2**63 - 1, 413),
        (None, 2**63 + 5, 413),
        (None, 2**64 - 1, 413),
    ],
)
async def test_an_answer_whose_length_is_over_the_limit_gets_413(
    real: RealEdge, own: int | None, length: int, status: int
) -> None:
    async def respond(_: Message) -> bytes:
        return answers(length)[: len(answers(length)) - 1001 + min(length, 1001)]

    await real.place("s1", "one", respond)
    await real.edge.set_route(Route(FN, S1, max_response=own))
    answer = await real.call("/function/fn")
    assert answer.status == status
    if status == 413:
        assert answer.text.startswith(f"the function's response is larger than the {own or 1000} bytes allowed")
        assert answer.headers["x-openfaas-internal"] == "proxy"


async def test_the_length_of_an_answer_without_content_has_no_limit(real: RealEdge) -> None:
    async def respond(request: Message) -> bytes:
        return b"HTTP/1.1 %d OK\r\nContent-Length: 5000\r\n\r\n" % (200 if request.method == "HEAD" else 304)

    await real.place("s1", "one", respond)
    await real.edge.set_route(Route(FN, S1))
    client = await real.connect()
    client.send("/function/fn", method="HEAD")
    head = await client.reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200") and b"content-length: 5000" in head.lower()
    client.send("/function/fn")
    assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 304")


# -- revisions that share the traffic


async def split(real: RealEdge, share: Share, new: Route, old: Route, concurrency: int = 1) -> Gate:
    """Send all calls to `share`; the new revision is in s1, the old one in s2. Their instances wait for the gate."""
    gate = Gate()
    for slot in (S1, S2):
        await real.place(slot, f"in-{slot}", gate.respond, concurrency=concurrency)
    await real.edge.set_route(old)
    await real.edge.set_route(replace(new, split=(share,)))
    return gate


@pytest.mark.parametrize(("share", "status"), [(Share(100, 4, FN), 413), (Share(100, 3, OLD), 200)])
async def test_bodies_and_answers_have_the_limits_of_the_chosen_revision(
    real: RealEdge, share: Share, status: int
) -> None:
    strict, mild = {"max_body": 3, "max_response": 2}, {"max_body": 4, "max_response": 1001}
    gate = await split(real, share, Route(FN, S1, **strict), Route(OLD, S2, **mild))
    gate.open.set()
    assert (await real.call("/function/fn", method="POST", body=b"four")).status == status
    assert (await real.call("/function/fn")).status == status


@pytest.mark.parametrize("share", [Share(100, 4, FN), Share(100, 3, OLD)])
async def test_a_revision_without_its_own_limits_has_the_platforms(real: RealEdge, share: Share) -> None:
    limits = {FN: {"max_body": 3}, OLD: {"max_body": 3}} | {share.key: {}}
    gate = await split(real, share, Route(FN, S1, **limits[FN]), Route(OLD, S2, **limits[OLD]))
    gate.open.set()
    assert (await real.call("/function/fn", method="POST", body=b"four")).status == 200


@pytest.mark.parametrize(("share", "status"), [(Share(100, 4, FN), 504), (Share(100, 3, OLD), 200)])
async def test_the_chosen_revision_sets_the_response_timeout(real: RealEdge, share: Share, status: int) -> None:
    gate = await split(real, share, Route(FN, S1, response_timeout=0.2), Route(OLD, S2, response_timeout=20.0))
    call = asyncio.create_task(real.call("/function/fn"))
    await asyncio.wait([call], timeout=0.6)
    gate.open.set()
    assert (await call).status == status


@pytest.mark.parametrize(("share", "places"), [(Share(100, 4, FN), 2), (Share(100, 3, OLD), 0)])
async def test_the_chosen_revision_sets_the_length_of_the_queue(real: RealEdge, share: Share, places: int) -> None:
    gate = await split(real, share, Route(FN, S1, max_queue=2), Route(OLD, S2, max_queue=0, max_inflight=1))
    slot = S1 if share.key == FN else S2
    calls = [asyncio.create_task(real.call("/function/fn")) for _ in range(1 + places)]

    async def there() -> bool:
        return (await real.edge.load(slot)).in_flight == 1 + places

    await real.until(there)
    refused = await real.call("/function/fn")
    assert refused.status == 429
    assert refused.headers["x-openfaas-internal"] == ("proxy" if places else "faas-middleware")
    gate.open.set()
    assert {answer.status for answer in await asyncio.gather(*calls)} == {200}


async def test_limits_survive_a_reload_and_a_synchronisation(real: RealEdge) -> None:
    from rescoldo.edge.config import map_text
    from rescoldo.edge.protocol import EdgeState

    gate = Gate()
    one = await real.place("s1", "one", gate.respond, concurrency=1)
    server = LiveServer(S1, one.name, one.address, 1)
    route = Route(FN, S1, max_queue=0, max_response=7, max_inflight=9)
    await real.reload([server], **map_text([route], real.settings.limits))
    await real.edge.synchronise(lambda: EdgeState((route,), (server,)))
    for name, value in (("queues", 0), ("answers", 7), ("inflight", 9)):
        assert f"{FN} {value}\n" in await real.admin.run(f"show map {real.settings.edge / f'{name}.map'}")
    calls = await in_flight(real, 1)
    assert (await real.call("/function/fn")).text.startswith("Concurrent request limit exceeded")
    gate.open.set()
    await asyncio.gather(*calls)
    await real.edge.drop_route(FN)
    assert str(FN) not in await real.admin.run(f"show map {real.settings.edge / 'queues.map'}")
