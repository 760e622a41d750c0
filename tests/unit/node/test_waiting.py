"""Requests that waited in the socket of an instance that has ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import AsyncIterator, Callable

import pytest

from leavers import reset_at_close
from rescoldo.node.sockets.waiting import Request, WaitingRequests
from rescoldo.tasks import Tasks

NOW = 1_800_000_000.5


async def request(head: bytes) -> Request:
    ours, theirs = socket.socketpair()
    theirs.close()
    reader, writer = await asyncio.open_unix_connection(sock=ours)
    writer.close()
    return Request(head, reader, writer)


@pytest.mark.parametrize(
    ("header", "begun"),
    [
        (b"X-Start-Time: 1800000000400000000", True),
        (b"x-start-time:1800000000600000000", False),
        (b"X-Start-Time: soon", False),
        (b"X-Other: 1", False),
    ],
)
async def test_the_start_time_tells_whether_a_request_began_before_the_end(header: bytes, begun: bool) -> None:
    asked = await request(b"GET / HTTP/1.1\r\nHost: x\r\n" + header + b"\r\n\r\n")
    assert asked.begun_before(NOW) is begun


async def test_a_passed_on_connection_serves_one_request() -> None:
    asked = await request(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert asked.once() == b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    upgrade = b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    assert (await request(upgrade)).once() == upgrade


async def test_closing_the_socket_while_requests_are_gathered_is_not_a_failure() -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("")  # the kernel chooses a free name
    listener.listen()
    waiting = WaitingRequests(Tasks())
    refusing = asyncio.create_task(waiting.serve_elsewhere(listener, "gone", lambda: None, lambda *_: None))
    await asyncio.sleep(0)
    listener.close()
    await asyncio.wait({refusing}, timeout=0.3)
    assert not refusing.done()
    refusing.cancel()


async def test_a_waiting_request_gets_an_error_if_no_other_instance_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rescoldo.node.sockets.waiting._OTHER_SECONDS", 0.05)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("")  # the kernel chooses a free name
        listener.listen()
        told: list[tuple[str, ...]] = []

        def tell(*what: str) -> None:
            told.append(what)

        waiting = WaitingRequests(Tasks())
        refusing = asyncio.create_task(waiting.serve_elsewhere(listener, "it is gone", lambda: None, tell))
        reader, writer = await asyncio.open_unix_connection(listener.getsockname())
        writer.write(b"HEAD / HTTP/1.1\r\nX-Call-Id: my\x1b call\r\n\r\n")
        begun = time.monotonic()
        answer = await reader.read()
        writer.close()
        refusing.cancel()
        assert os.get_blocking(listener.fileno())  # a successor may expect a blocking socket
    assert told == [("my\\x1b call", "its instance ended: it is gone")]
    body = "the function's instance ended before its response was complete: it is gone\n"
    assert answer.decode() == (  # HEAD has no body
        "HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/plain; charset=utf-8\r\nX-OpenFaaS-Internal: proxy\r\n"
        f"Cache-Control: no-cache\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    assert time.monotonic() - begun < 3


@contextlib.asynccontextmanager
async def standing_in(
    other: Callable[[], str | None], *asked: bytes, tell: Callable[[str, str], None] = lambda call_id, reason: None
) -> AsyncIterator[list[bytes]]:
    """Yield the responses to `asked` at a TCP port where requests wait; `other` finds the instance that takes them, or
    none."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = asyncio.create_task(WaitingRequests(Tasks()).serve_elsewhere(listener, "it is gone", other, tell))
        answers = []
        for head in asked:
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            writer.write(head)
            answers.append(await reader.read())
            writer.close()
        yield answers
        serving.cancel()


async def test_a_waiting_request_goes_to_an_instance_at_a_port_as_soon_as_one_listens() -> None:
    heads: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    with socket.create_server(("127.0.0.1", 0)) as closed:
        found = iter([None, f"127.0.0.1:{closed.getsockname()[1]}", f"{host}:{port}"])
    async with standing_in(lambda: next(found), b"GET /x HTTP/1.1\r\n\r\n") as answers:
        assert answers == [b"HTTP/1.1 204 No Content\r\n\r\n"]
    assert heads == [b"GET /x HTTP/1.1\r\nConnection: close\r\n\r\n"]
    server.close()


@pytest.mark.parametrize("abruptly", [False, True])
async def test_the_node_answers_a_request_that_ends_a_second_instance_so_the_edge_does_not_retry(
    abruptly: bool
) -> None:
    async def end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if abruptly:
            reset_at_close(writer)
        writer.close()

    server = await asyncio.start_server(end, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    told: list[tuple[str, ...]] = []
    head = b"GET / HTTP/1.1\r\nX-Call-Id: mine\r\n\r\n"
    async with standing_in(lambda: f"{host}:{port}", head, tell=lambda *what: told.append(what)) as (answer,):
        assert answer.startswith(b"HTTP/1.1 502 ")
        why = "it is gone; its replacement ended, too; the call is not retried"
        assert why.encode() in answer
    assert told == [("mine", f"its instance ended: {why}")]
    server.close()
