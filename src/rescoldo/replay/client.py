"""A small HTTP/1.1 client for an open loop: many calls in flight at once, each at little cost.

The client runs on the machine that it measures, so the platform lacks whatever cpu a call costs here. A call takes one
future and one parser on a connection that is kept alive. The client knows only the HTTP of a gateway's responses: no
redirects, no proxies, no cookies. It must not retry: a replay counts failures.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

import httptools

from rescoldo.model.errors import RescoldoError

CONNECT_SECONDS = 10.0
KEPT_SECONDS = 30.0  # an idle connection older than this is not reused: the edge closes it after 60 s
MAX_CONNECTIONS = 8_000  # open at once; the edge accepts 10,000 by default
MAX_ANSWER = 64 * 2**20  # bytes; /metrics of 10,000 functions has about 20 MB


@dataclass(slots=True)
class Answer:
    """A response."""

    status: int = 0
    headers: dict[bytes, bytes] = field(default_factory=dict)  # names in lower case
    body: bytes = b""

    @property
    def text(self) -> str:
        """The body as text, stripped."""
        return self.body.decode(errors="replace").strip()


class _GatewayConnection(asyncio.Protocol):
    """One call at a time; httptools calls the methods on_*."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.free_since = 0.0
        self.reusable = False
        self._parser = httptools.HttpResponseParser(self)
        self._answer = Answer()
        self._chunks: list[bytes] = []
        self._size = 0
        self._waiting: asyncio.Future[Answer] | None = None

    def ask(self, data: bytes) -> asyncio.Future[Answer]:
        """Send a whole request; the future completes with the whole response."""
        assert self.transport is not None
        self._waiting = asyncio.get_running_loop().create_future()
        self.transport.write(data)
        return self._waiting

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(f"the response is not HTTP: {error}")

    def connection_lost(self, error: Exception | None) -> None:
        self.reusable = False
        self._fail(f"the connection ended before the response was complete{f': {error}' if error else ''}")

    def close(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def on_message_begin(self) -> None:
        self._answer, self._chunks, self._size = Answer(), [], 0

    def on_header(self, name: bytes, value: bytes) -> None:
        self._answer.headers[name.lower()] = value

    def on_body(self, chunk: bytes) -> None:
        self._size += len(chunk)
        if self._size > MAX_ANSWER:
            self._fail(f"the response is larger than {MAX_ANSWER} bytes")
            self.close()
        else:
            self._chunks.append(chunk)

    def on_message_complete(self) -> None:
        self._answer.status = self._parser.get_status_code()
        self._answer.body = b"".join(self._chunks)
        self.reusable = self._parser.should_keep_alive()
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(self._answer)

    def _fail(self, why: str) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(RescoldoError(why))


class Client:
    """A pool of connections to one server. Every call raises RescoldoError when no response comes."""

    def __init__(self, url: str, *, authorization: str = "", tls: ssl.SSLContext | None = None) -> None:
        parts = urlsplit(url)
        self.url = url
        self._host = parts.hostname or "127.0.0.1"
        self._port = parts.port or (80 if tls is None else 443)
        self._tls = tls
        self._free: deque[_GatewayConnection] = deque()
        self._open = 0
        login = f"Authorization: {authorization}\r\n" if authorization else ""
        self._system_head = f"Host: {parts.netloc}\r\n{login}".encode()
        self._plain_head = f"Host: {parts.netloc}\r\n".encode()

    async def system(
        self, method: str, path: str, body: bytes = b"", *, content_type: str = "application/json"
    ) -> Answer:
        """Send a request with the password, which functions never get."""
        return await self._call(method, path, self._system_head + f"Content-Type: {content_type}\r\n".encode(), body)

    async def call(self, method: str, path: str, body: bytes = b"") -> Answer:
        """Send a request without the password."""
        return await self._call(method, path, self._plain_head, body)

    def close(self) -> None:
        """Close the idle connections."""
        while self._free:
            self._free.popleft().close()

    async def _call(self, method: str, path: str, headers: bytes, body: bytes) -> Answer:
        connection = self._take() or await self._connect()
        try:
            head = b"%b %b HTTP/1.1\r\n%bContent-Length: %d\r\n\r\n" % (
                method.encode(), path.encode(), headers, len(body)
            )  # fmt: skip
            answer = await connection.ask(head + body)
        except BaseException:
            connection.close()
            self._open -= 1
            raise
        self._give_back(connection)
        return answer

    def _take(self) -> _GatewayConnection | None:
        now = asyncio.get_running_loop().time()
        while self._free:
            connection = self._free.pop()  # the last one used, so that surplus connections grow old
            if connection.reusable and now - connection.free_since < KEPT_SECONDS:
                return connection
            connection.close()
            self._open -= 1
        return None

    def _give_back(self, connection: _GatewayConnection) -> None:
        if connection.reusable:
            connection.free_since = asyncio.get_running_loop().time()
            self._free.append(connection)
        else:
            connection.close()
            self._open -= 1

    async def _connect(self) -> _GatewayConnection:
        if self._open >= MAX_CONNECTIONS:
            raise RescoldoError(f"{MAX_CONNECTIONS} calls are running already; use fewer --functions or less --speed")
        self._open += 1
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                loop = asyncio.get_running_loop()
                _, connection = await loop.create_connection(_GatewayConnection, self._host, self._port, ssl=self._tls)
        except (OSError, TimeoutError) as error:
            self._open -= 1
            raise RescoldoError(f"no gateway answers at {self.url}: {error or 'timed out'}") from error
        except BaseException:
            self._open -= 1
            raise
        return connection
