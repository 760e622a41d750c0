"""Control's way to a function's owner, over a socket: which answers are an owner's, and how long it waits for one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from rescoldo.cluster.owners import GatewayOwners
from rescoldo.cluster.protocol import Asked, NoOwner
from rescoldo.model.names import function_id

ASKED = Asked(function_id("fn"), "PUT", "/system/functions?a=b", {"content-type": "application/json"}, b'{"x": 1}')
BUSY = b"HTTP/1.1 503 No\r\nContent-Length: 12\r\n\r\nno worker..."
ANSWER = b"HTTP/1.1 202 Yes\r\nX-Rescoldo-Worker: w1\r\nContent-Length: 4\r\n\r\ndone"


@asynccontextmanager
async def gateway(*answers: bytes) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A gateway that gives one answer after the other, the last one for ever; what it was sent."""
    heard: list[bytes] = []
    left = list(answers)

    ended: list[asyncio.Event] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        over = asyncio.Event()
        ended.append(over)
        with suppress(asyncio.IncompleteReadError):  # the client closes its connection
            while True:
                heard.append(await reader.readuntil(b'{"x": 1}'))
                writer.write(left.pop(0) if len(left) > 1 else left[0])
                await writer.drain()
        writer.close()
        await writer.wait_closed()
        over.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", heard
    for over in ended:
        await over.wait()


async def said(owners: GatewayOwners) -> tuple[int, bytes]:
    async with owners.ask(ASKED) as answered:
        return answered.status, b"".join([chunk async for chunk in answered.chunks])


@asynccontextmanager
async def owners_at(url: str, patience: float = 5.0) -> AsyncIterator[GatewayOwners]:
    made = GatewayOwners(url, lambda: "s3", patience=patience)
    try:
        yield made
    finally:
        await made.close()


async def test_a_request_carries_key_and_secret_and_nothing_else_of_control() -> None:
    async with gateway(ANSWER) as (url, heard), owners_at(url) as owners:
        assert await said(owners) == (202, b"done")
    head = heard[0].lower()
    assert head.startswith(b"put /-/owner/system/functions?a=b http/1.1\r\n")
    assert b"\r\nx-rescoldo-key: fn.openfaas-fn\r\n" in head
    assert b"\r\nx-rescoldo-control: s3\r\n" in head
    assert b"authorization" not in head


async def test_an_answer_of_the_gateway_itself_is_waited_out() -> None:
    async with gateway(BUSY, BUSY, ANSWER) as (url, heard), owners_at(url) as owners:
        assert await said(owners) == (202, b"done")
    assert len(heard) == 3


async def test_without_an_owner_it_gives_up_and_says_why() -> None:
    async with gateway(BUSY) as (url, heard), owners_at(url, patience=0.5) as owners:
        with pytest.raises(NoOwner, match=r"no worker of namespace openfaas-fn answers .* \(no worker\.\.\.\)"):
            await said(owners)
    assert 2 <= len(heard) <= 3


async def test_a_gateway_that_is_away_counts_as_no_owner() -> None:
    async with gateway(BUSY) as (url, _):
        pass
    async with owners_at(url, patience=0.3) as owners:
        with pytest.raises(NoOwner, match="the gateway cannot be reached"):
            await said(owners)


async def test_what_the_caller_raises_is_no_failure_of_an_owner() -> None:
    async with gateway(ANSWER) as (url, heard), owners_at(url) as owners:
        with pytest.raises(KeyError):
            async with owners.ask(ASKED):
                raise KeyError
    assert len(heard) == 1
