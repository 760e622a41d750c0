"""Clients that disconnect, whatever the server did before."""

from __future__ import annotations

import asyncio

import pytest

from leavers import HOW, How, ask, reset_at_close


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("lingers", [True, False], ids=["closed", "reset"])
async def test_a_client_can_abandon_and_close_a_connection_that_the_server_closed(how: How, lingers: bool) -> None:
    ended = asyncio.Event()

    async def end(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not lingers:
            reset_at_close(writer)
        writer.close()
        ended.set()

    async with await asyncio.start_server(end, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        (leaver,) = await ask(host, port, "/", how, 1)
        await ended.wait()
        for _ in range(10):  # the loop notices the end in one of its turns
            await leaver.leave()
            await asyncio.sleep(0)
        await leaver.close()
