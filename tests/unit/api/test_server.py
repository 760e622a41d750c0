"""The API behind a real uvicorn on a Unix socket whose listener it inherits."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from fake_platform import FakePlatform
from gateway import SETTINGS
from httpx2 import AsyncClient, AsyncHTTPTransport

from rescoldo.api.app import create_app
from rescoldo.api.server import GRACE, serve
from rescoldo.model.function import FunctionSpec
from rescoldo.model.names import function_id

ECHO = function_id("echo")


class Running:
    """A server, how to reach it and how to stop it."""

    def __init__(self, platform: FakePlatform, path: Path) -> None:
        self.path = path
        self.stop = asyncio.Event()
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(path))
        sock.listen()
        self.task = asyncio.ensure_future(serve(create_app(platform.ports(), SETTINGS, None, b""), sock, self.stop))

    def client(self) -> AsyncClient:
        return AsyncClient(transport=AsyncHTTPTransport(uds=str(self.path)), base_url="http://gateway")


@pytest.fixture
async def server(platform: FakePlatform, tmp_path: Path) -> AsyncIterator[Running]:
    running = Running(platform, tmp_path / "api.sock")
    yield running
    running.stop.set()
    await running.task


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


async def stopped(running: Running) -> float:
    """Stop the server; return the seconds it took."""
    begun = time.perf_counter()
    running.stop.set()
    await running.task
    return time.perf_counter() - begun


async def test_a_request_is_answered_over_the_socket(server: Running) -> None:
    async with server.client() as client:
        answer = await client.get("/healthz")
    assert (answer.status_code, answer.text) == (200, "OK")
    assert "date" in answer.headers and "server" not in answer.headers


async def test_signals_are_left_to_the_controller(server: Running) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    async with server.client() as client:
        await client.get("/healthz")
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


async def test_an_idle_server_stops_at_once(server: Running) -> None:
    async with server.client() as client:
        await client.get("/healthz")  # the client's connection stays open
        assert await stopped(server) < 1.0


async def test_a_followed_line_arrives_while_the_stream_is_open(server: Running, platform: FakePlatform) -> None:
    await platform.deploy(FunctionSpec("echo", "i"), must_exist=False)
    async with server.client() as client, client.stream("GET", "/system/logs?name=echo&follow=true") as answer:
        lines = answer.aiter_lines()
        for text in ("one", "two"):
            await platform.write_line(ECHO, text)
            assert json.loads(await asyncio.wait_for(anext(lines), 5))["text"] == text


async def test_the_platform_ends_the_stream_of_a_follower_that_leaves(server: Running, platform: FakePlatform) -> None:
    await platform.deploy(FunctionSpec("echo", "i"), must_exist=False)
    await platform.write_line(ECHO, "one")
    async with server.client() as client, client.stream("GET", "/system/logs?name=echo&follow=1") as answer:
        lines = answer.aiter_lines()
        await anext(lines)
        assert platform.followers == 1
    await until(lambda: platform.followers == 0)


async def test_a_followed_log_ends_when_the_server_stops(server: Running, platform: FakePlatform) -> None:
    await platform.deploy(FunctionSpec("echo", "i"), must_exist=False)
    await platform.write_line(ECHO, "one")
    async with server.client() as client, client.stream("GET", "/system/logs?name=echo&follow=1") as answer:
        lines = answer.aiter_lines()
        await anext(lines)
        stopping = asyncio.ensure_future(stopped(server))
        assert [line async for line in lines] == []  # a complete response, not a broken one
        assert await stopping < GRACE
    assert platform.followers == 0


@pytest.mark.slow
async def test_an_endless_upload_is_cut_after_the_grace_period(server: Running, platform: FakePlatform) -> None:
    _, writer = await asyncio.open_unix_connection(str(server.path))
    writer.write(b"POST /system/bundles?image=i HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf")
    await until(lambda: platform.uploading)
    assert GRACE - 0.1 < await stopped(server) < GRACE + 2
    writer.close()
    await writer.wait_closed()
    assert platform.images == {}


async def test_an_upload_of_megabytes_arrives_complete(server: Running, platform: FakePlatform) -> None:
    data = bytes(range(256)) * 20_000
    async with server.client() as client:
        answer = await client.post("/system/bundles?image=i", content=data)
    assert answer.json()["digest"] == hashlib.sha256(data).hexdigest()


@pytest.mark.slow
async def test_the_server_finishes_an_upload_in_progress_before_it_exits(
    server: Running, platform: FakePlatform
) -> None:
    rest = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b"first"
        await rest.wait()
        yield b"last"

    async with server.client() as client:
        await client.get("/healthz")
        upload = asyncio.ensure_future(client.post("/system/bundles?image=i", content=body()))
        await until(lambda: platform.uploading)
        server.stop.set()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(server.task), 0.3)  # the server waits for the upload
        rest.set()
        assert (await upload).status_code == 201


async def raw(path: Path, data: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(data)
    answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return answer


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \r\n\r\n", b"200"),
        (b"GET /healthz HTTP/1.0\r\n\r\n", b"200"),
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET /system/function/%00%ff HTTP/1.1\r\nHost: x\r\n\r\n", b"400"),
        (b"GET /%2e%2e/etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", b"404"),
        (
            b"POST /system/functions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
            b"400",
        ),
    ],
)
async def test_odd_requests_get_a_response(server: Running, request_bytes: bytes, status: bytes) -> None:
    answer = await raw(server.path, request_bytes)
    assert answer.split(b" ")[1] == status


async def test_a_connection_made_before_the_server_starts_is_served(platform: FakePlatform, tmp_path: Path) -> None:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(tmp_path / "api.sock"))
    sock.listen()
    early = asyncio.ensure_future(raw(tmp_path / "api.sock", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"))
    await asyncio.sleep(0)
    stop = asyncio.Event()
    server = asyncio.ensure_future(serve(create_app(platform.ports(), SETTINGS, None, b""), sock, stop))
    assert b"200 OK" in await early
    stop.set()
    await server


async def test_a_duplicate_of_the_socket_keeps_accepting_connections(platform: FakePlatform, tmp_path: Path) -> None:
    """The supervisor holds such a duplicate: a new controller serves what arrived between the two."""
    kept = socket.socket(socket.AF_UNIX)
    kept.bind(str(tmp_path / "api.sock"))
    kept.listen()
    run: Callable[[asyncio.Event], Awaitable[None]] = lambda stop: serve(  # noqa: E731
        create_app(platform.ports(), SETTINGS, None, b""), kept.dup(), stop
    )
    first, second = asyncio.Event(), asyncio.Event()
    first.set()
    await run(first)
    between = asyncio.ensure_future(raw(tmp_path / "api.sock", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"))
    await asyncio.sleep(0)
    server = asyncio.ensure_future(run(second))
    assert b"200 OK" in await between
    second.set()
    await server
    kept.close()
