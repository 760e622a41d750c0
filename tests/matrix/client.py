"""A plain HTTP client that never retries and records how every request ended."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from dataclasses import dataclass

import httptools

TIMEOUT = 45.0  # seconds; longer than the platform takes to notice a stopped part
CHUNK = 65536


@dataclass(slots=True)
class Call:
    """One request; times are seconds of the monotonic clock."""

    function: str  # empty for a call to /system
    method: str
    path: str
    kind: str  # "warm", "slow" (a handler that takes its time), "cold", "system"
    connected: float = 0.0  # when the client opened its connection
    begin: float = 0.0
    end: float = 0.0
    outcome: str = ""  # the status, or the client's error
    body: bytes = b""
    wanted: str = "2"  # the expected beginning of the status

    @property
    def failed(self) -> bool:
        return not self.outcome.startswith(self.wanted)

    def __str__(self) -> str:
        text = self.body[:200].decode(errors="replace").strip()
        seconds = self.end - self.begin
        return f"{self.kind} {self.method} {self.path}: {self.outcome} after {seconds:.3f} s {text}".strip()


class _Response:
    """Collects httptools' events for one response."""

    def __init__(self) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.body = b""
        self.complete = False
        self.keeps = False  # whether the connection is reusable

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete = True
        self.keeps = self.parser.should_keep_alive()


class Client:
    """A client with one connection at a time; `kept` reuses the connection for further requests."""

    def __init__(self, port: int, calls: list[Call], *, kept: bool, headers: str = "") -> None:
        self._port = port
        self._calls = calls
        self._kept = kept
        self._headers = headers
        self._socket: socket.socket | None = None
        self._connected = 0.0

    async def send(self, call: Call, body: bytes = b"") -> Call:
        """Make a call and record how it ended."""
        self._calls.append(call)
        call.begin = time.monotonic()
        try:
            async with asyncio.timeout(TIMEOUT):
                connection = await self._connection(call)
                response = await self._exchange(connection, call, body)
            call.outcome, call.body = str(response.parser.get_status_code()), response.body
            if not (self._kept and response.keeps):
                self.close()
        except (OSError, httptools.HttpParserError) as error:  # TimeoutError is an OSError
            call.outcome = f"{type(error).__name__} {error}".strip()
            self.close()
        call.end = time.monotonic()
        return call

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    async def _connection(self, call: Call) -> socket.socket:
        """Return the open connection, or a new one. A server may close an idle connection at any time (RFC 9112,
        9.3)."""
        if self._socket is not None and not _is_open(self._socket):
            self.close()
        if self._socket is None:
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            self._socket.setblocking(False)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            call.connected = self._connected = time.monotonic()
            await asyncio.get_running_loop().sock_connect(self._socket, ("127.0.0.1", self._port))
        call.connected = self._connected
        return self._socket

    async def _exchange(self, connection: socket.socket, call: Call, body: bytes) -> _Response:
        loop = asyncio.get_running_loop()
        head = f"{call.method} {call.path} HTTP/1.1\r\nHost: localhost\r\n{self._headers}"
        if call.method != "GET":
            head += f"Content-Length: {len(body)}\r\n"
        if not self._kept:
            head += "Connection: close\r\n"
        await loop.sock_sendall(connection, head.encode() + b"\r\n" + body)
        response = _Response()
        while not response.complete:
            chunk = await loop.sock_recv(connection, CHUNK)
            if not chunk:
                raise ConnectionError("the connection was closed before the answer was complete")
            response.parser.feed_data(chunk)
        return response


def _is_open(connection: socket.socket) -> bool:
    with contextlib.suppress(BlockingIOError):
        try:
            connection.recv(1, socket.MSG_PEEK)
        except ConnectionError:
            return False
        return False  # the end, or bytes that belong to no request
    return True
