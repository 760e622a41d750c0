"""The replay's HTTP client against a server whose responses a test sets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from rescoldo.model.errors import RescoldoError
from rescoldo.replay import client as client_module
from rescoldo.replay.client import Client

Reply = Callable[[bytes], bytes | None]  # the request's bytes → the response's; None: close without a response
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Cold-Start: true\r\n\r\nok"


class Server:
    def __init__(self, reply: Reply) -> None:
        self.url = ""
        self.connections = 0
        self.requests: list[bytes] = []
        self._reply = reply

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while request := await reader.read(65536):
                self.requests.append(request)
                answer = self._reply(request)
                if answer is None:
                    return
                writer.write(answer)
        finally:
            writer.close()


@asynccontextmanager
async def serving(reply: Reply = lambda request: OK) -> AsyncIterator[Server]:
    server = Server(reply)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        listener.close()
        await asyncio.sleep(0)


async def test_successive_calls_share_a_connection_and_only_system_requests_have_the_password() -> None:
    async with serving() as server:
        client = Client(server.url, authorization="Basic c2VjcmV0")
        answers = [await client.call("POST", "/function/f000.ns", b"0.5") for _ in range(3)]
        await client.system("POST", "/system/functions", b"{}")
        client.close()
    assert {(one.status, one.text, one.headers[b"x-cold-start"]) for one in answers} == {(200, "ok", b"true")}
    assert server.connections == 1
    head = f"POST /function/f000.ns HTTP/1.1\r\nHost: {server.url.removeprefix('http://')}\r\nContent-Length: 3\r\n"
    assert server.requests[0] == f"{head}\r\n0.5".encode()
    assert b"c2VjcmV0" not in b"".join(server.requests[:3])
    assert b"Authorization: Basic c2VjcmV0\r\n" in server.requests[3]


async def test_concurrent_calls_have_a_connection_each() -> None:
    async with serving() as server:
        client = Client(server.url)
        await asyncio.gather(*(client.call("GET", "/") for _ in range(5)))
        await asyncio.gather(*(client.call("GET", "/") for _ in range(5)))
        client.close()
    assert server.connections == 5


async def test_a_connection_that_the_server_closes_after_a_response_is_not_reused() -> None:
    async with serving(lambda request: OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")) as server:
        client = Client(server.url)
        assert [(await client.call("GET", "/")).status for _ in range(2)] == [200, 200]
        client.close()
    assert server.connections == 2


async def test_an_old_connection_is_not_reused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "KEPT_SECONDS", 0.0)
    async with serving() as server:
        client = Client(server.url)
        await client.call("GET", "/")
        await client.call("GET", "/")
        client.close()
    assert server.connections == 2


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (lambda request: None, "the connection ended before the response was complete"),
        (lambda request: b"nonsense\r\n\r\n", "the response is not HTTP"),
        (lambda request: b"HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n" + b"x" * 101, "larger than 100 bytes"),
    ],
    ids=["no answer", "not HTTP", "too large"],
)
async def test_an_invalid_response_is_an_error_and_never_retried(
    monkeypatch: pytest.MonkeyPatch, reply: Reply, expected: str
) -> None:
    monkeypatch.setattr(client_module, "MAX_ANSWER", 100)
    async with serving(reply) as server:
        with pytest.raises(RescoldoError, match=expected):
            await Client(server.url).call("POST", "/")
    assert len(server.requests) == 1


async def test_without_a_listener_the_error_names_the_gateway() -> None:
    with pytest.raises(RescoldoError, match=r"no gateway answers at http://127\.0\.0\.1:1"):
        await Client("http://127.0.0.1:1").call("GET", "/")


async def test_the_number_of_connections_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "MAX_CONNECTIONS", 2)
    async with serving(lambda request: b"") as server:
        client = Client(server.url)
        calls = [asyncio.create_task(client.call("GET", "/")) for _ in range(2)]
        while len(server.requests) < 2:
            await asyncio.sleep(0)
        with pytest.raises(RescoldoError, match="2 calls are running already"):
            await client.call("GET", "/")
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
