"""The matrix's client sees what a plain client sees: it hides no failure and invents none."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from matrix.client import Call, Client

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def calls_to(serve: Serve, count: int) -> tuple[list[Call], int]:
    """Make `count` calls on a kept connection; return them and the number of connections."""
    ended: list[asyncio.Event] = []

    async def counted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ended.append(asyncio.Event())
        end = ended[-1]
        with contextlib.suppress(asyncio.IncompleteReadError):
            await serve(reader, writer)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        end.set()

    server = await asyncio.start_server(counted, "127.0.0.1", 0)
    calls: list[Call] = []
    client = Client(server.sockets[0].getsockname()[1], calls, kept=True)
    for _ in range(count):
        await client.send(Call("f", "GET", "/function/f", "warm"))
        await asyncio.sleep(0)
    client.close()
    for end in ended:
        await end.wait()
    server.close()
    await server.wait_closed()
    return calls, len(ended)


async def test_calls_share_a_connection_that_stays_open() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(OK)

    calls, made = await calls_to(serve, 3)
    assert [(call.outcome, call.body, call.failed) for call in calls] == [("200", b"ok", False)] * 3
    assert made == 1


async def test_a_connection_closed_while_idle_is_replaced_without_a_failure() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)

    calls, made = await calls_to(serve, 2)
    assert [call.failed for call in calls] == [False, False]
    assert made == 2


async def test_a_connection_closed_without_a_response_is_a_failure_and_the_call_is_not_repeated() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")

    calls, made = await calls_to(serve, 2)
    assert [call.failed for call in calls] == [True, True]
    assert made == 2


async def test_an_incomplete_response_is_a_failure() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK[:-1])

    calls, _ = await calls_to(serve, 1)
    assert "closed before the answer was complete" in calls[0].outcome


async def test_a_refused_connection_is_a_failure_of_a_call_that_reached_nothing() -> None:
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    call = await Client(port, [], kept=False).send(Call("f", "GET", "/", "warm"))
    assert call.failed
    assert call.connected >= call.begin
