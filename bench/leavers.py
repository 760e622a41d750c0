"""Clients that send requests and leave without waiting, in each way that a client can leave.

HTTP/2 is spoken in raw frames (RFC 9113): client libraries do not cancel requests as abruptly as an attacker does.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import Literal, Protocol

How = Literal["close", "reset", "half-close", "h2-reset"]
HOW: tuple[How, ...] = ("close", "reset", "half-close", "h2-reset")
STREAMS = 100  # concurrent streams that HAProxy allows on one HTTP/2 connection
CANCEL = 8  # a browser's error code when its user leaves
_HEADERS, _RST_STREAM, _SETTINGS = 1, 3, 4
_END_STREAM, _END_HEADERS = 1, 4
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class Leaver(Protocol):
    """Clients with open requests; `leave` cancels all of the requests, `close` ends the rest of the connection.

    Both do nothing if the server has already closed the connection.
    """

    async def leave(self) -> None: ...

    async def close(self) -> None: ...


async def ask(host: str, port: int, path: str, how: How, count: int) -> list[Leaver]:
    """Send `count` GET requests from clients that can leave as `how` says."""
    if how == "h2-reset":
        sizes = [min(STREAMS, count - begin) for begin in range(0, count, STREAMS)]
        return [await Http2.open(host, port, path, size) for size in sizes]
    return [await Http1.open(host, port, path, how) for _ in range(count)]


class Http1:
    """One request on a connection of its own."""

    def __init__(self, writer: asyncio.StreamWriter, how: How) -> None:
        self._writer = writer
        self._how = how

    @classmethod
    async def open(cls, host: str, port: int, path: str, how: How) -> Http1:
        _, writer = await asyncio.open_connection(host, port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: gateway\r\n\r\n".encode())
        return cls(writer, how)

    async def close(self) -> None:
        await _close(self._writer)

    async def leave(self) -> None:
        """Leave; a half-closed connection stays open until `close`."""
        if self._writer.is_closing():
            return
        if self._how == "half-close":
            _write_eof(self._writer)
            return
        if self._how == "reset":
            reset_at_close(self._writer)
        self._writer.close()


class Http2:
    """Requests on one connection, each on a stream that is reset to leave."""

    def __init__(self, writer: asyncio.StreamWriter, count: int) -> None:
        self._writer = writer
        self._count = count

    @classmethod
    async def open(cls, host: str, port: int, path: str, count: int) -> Http2:
        _, writer = await asyncio.open_connection(host, port)
        writer.write(_PREFACE + _frame(_SETTINGS, 0, 0))
        head = b"".join(_field(name, value) for name, value in _head(path))
        for stream in _streams(count):
            writer.write(_frame(_HEADERS, _END_STREAM | _END_HEADERS, stream, head))
        await writer.drain()
        return cls(writer, count)

    async def close(self) -> None:
        await _close(self._writer)

    async def leave(self) -> None:
        """Reset each stream; the connection stays open."""
        if self._writer.is_closing():
            return
        for stream in _streams(self._count):
            self._writer.write(_frame(_RST_STREAM, 0, stream, struct.pack(">I", CANCEL)))
        with suppress(ConnectionError):
            await self._writer.drain()


def reset_at_close(writer: asyncio.StreamWriter) -> None:
    """Make a close send a RST: SO_LINGER with 0 s resets the connection."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _write_eof(writer: asyncio.StreamWriter) -> None:
    try:
        writer.write_eof()
    except OSError as error:
        if error.errno != errno.ENOTCONN:  # the server's reset has arrived unread
            raise


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


def _streams(count: int) -> Iterator[int]:
    """Return the ids of the client's streams: odd numbers."""
    return iter(range(1, 2 * count, 2))


def _head(path: str) -> list[tuple[bytes, bytes]]:
    return [(b":method", b"GET"), (b":scheme", b"http"), (b":path", path.encode()), (b":authority", b"gateway")]


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def _field(name: bytes, value: bytes) -> bytes:
    """Encode a header in HPACK's plainest form (RFC 7541, 6.2.2): a literal outside the dynamic table, lengths
    below 127."""
    return b"\0" + bytes((len(name),)) + name + bytes((len(value),)) + value
