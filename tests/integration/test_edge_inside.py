"""The gateway's second listener, for instances: the same rules as the first, and its own limit of connections."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from rescoldo.edge.config import inside_limits
from rescoldo.edge.protocol import LiveServer, Route
from rescoldo.model.names import function_id
from support.ports import free_ports
from support.real_edge import S1, Instance, Message, RealEdge, ok

FN = function_id("fn")
CLIENTS = 100
TOGETHER, EACH = inside_limits(CLIENTS)


class Edge(RealEdge):
    """An edge with a listener for instances at the address `inside`, and the instance `one` of the function."""

    one: Instance

    def __init__(self, inside: str) -> None:
        super().__init__(max_connections=CLIENTS, max_holds=0, trusted_proxies=("127.0.0.0/8",))
        self.inside = inside
        self.requests: list[Message] = []

    async def answer(self, request: Message) -> bytes:
        self.requests.append(request)
        return ok("one")


@pytest.fixture
async def edge(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Edge]:
    inside = f"127.0.0.1:{free_ports(1)[0]}"
    monkeypatch.setenv("RESCOLDO_INSIDE", inside)
    async with Edge(inside) as real:
        real.one = await real.place("s1", "one", real.answer)
        await real.edge.set_route(Route(FN, S1))
        yield real


async def served_inside(edge: Edge) -> bool:
    """Return whether the edge serves a new connection of an instance; False if it closes the connection at once."""
    try:
        return (await (await edge.connect(edge.inside)).call("/function/fn")).status == 200
    except ConnectionError:
        return False


async def scur(edge: Edge) -> int:
    head, row = (await edge.admin.run("show stat gateway 1 -1")).splitlines()[:2]
    return int(dict(zip(head.split(","), row.split(","), strict=True))["scur"])


async def test_both_listeners_serve_calls_also_after_a_reload(edge: Edge) -> None:
    for address in ("", edge.inside):
        answer = await (await edge.connect(address)).call("/function/fn")
        assert (answer.status, answer.text) == (200, "one")
    await edge.reload([LiveServer(S1, edge.one.name, edge.one.address, 100)], routes=f"{FN} s1\n* 1\n")
    for address in ("", edge.inside):
        assert (await (await edge.connect(address)).call("/function/fn")).status == 200


async def test_a_connection_beyond_the_limit_of_one_source_is_closed(edge: Edge) -> None:
    mine = [await edge.connect(edge.inside) for _ in range(EACH)]
    for client in mine:
        assert (await client.call("/function/fn")).status == 200
    assert not await served_inside(edge)
    mine[0].close()
    await edge.until(lambda: served_inside(edge))
    assert await scur(edge) <= EACH + 1


async def test_connections_of_instances_leave_places_for_other_clients(edge: Edge) -> None:
    for _ in range(TOGETHER + EACH):
        with suppress(ConnectionError):  # the limit is reached
            await edge.connect(edge.inside)
    others = [await edge.connect() for _ in range(CLIENTS - TOGETHER)]
    for client in others:
        assert (await client.call("/function/fn")).status == 200


async def test_an_instance_is_no_trusted_proxy_although_it_has_an_address_of_one(edge: Edge) -> None:
    told = []
    for address in ("", edge.inside):
        client = await edge.connect(address)
        await client.call("/function/fn", headers={"X-Forwarded-For": "192.0.2.7"})
        told.append(edge.requests[-1].headers["x-forwarded-for"])
    assert told == ["192.0.2.7", "127.0.0.1"]
