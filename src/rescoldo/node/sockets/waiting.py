"""Waiting requests: those in an instance's listening socket that its successor cannot or must not take.

After an instance's end, the edge sends the requests that were cut off once more, to the same socket. Mostly the
successor serves them there. This module handles the other cases:

* An instance that ran out of memory does not get the same call twice: the node answers the calls that it had begun with
  the reason, and passes all other requests on to the successor.
* Without a successor on this socket, the node passes waiting requests on to another instance of the function. If there
  is none, it answers them with the reason instead of leaving them until their time limit.
* A socket that the function has shut down takes no more requests; the node passes its requests on to the next socket.
* When a program did not listen at its TCP port for a moment, the node passes the requests in its stand-in on to it.

Addresses are "unix@PATH" or "IP:PORT".
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from rescoldo.model.text import one_line
from rescoldo.node.sockets.addresses import socket_path, tcp_address
from rescoldo.tasks import Tasks

Tell = Callable[[str, str], None]  # receives the id of a call that the node answered, and the reason

REPEATABLE = frozenset((b"GET", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"TRACE"))  # methods that the edge retries
GATHER_SECONDS = 0.1  # from an instance's end until the edge has noticed it and retried its calls
_LOOK_SECONDS = 0.01
_MOST = 1024  # requests taken at once: as many as can wait in the socket
_MOST_HEAD = 64 * 1024  # bytes of a request's head; the edge accepts 16 KiB
_HEAD_SECONDS = 1.0  # for a head to arrive: the edge sends it as soon as it has connected
_OTHER_SECONDS = 5.0  # for another instance to serve, where the ended one is not replaced on its socket
_LINGER_SECONDS = 1.0  # for the edge to read a response and close
_MOST_ID = 100  # bytes of a call's id, which may come from the client
_ENDED_TOO = "its replacement ended, too; the call is not retried"
_CHUNK = 64 * 1024  # bytes copied at once
_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Request:
    """A request that the node took from a socket: its head as received, and its connection."""

    head: bytes  # including the empty line
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @property
    def method(self) -> bytes:
        return self.head.partition(b" ")[0]

    def begun_before(self, moment: float) -> bool:
        """Whether the edge received it before `moment` (Unix seconds), according to its X-Start-Time header
        (nanoseconds)."""
        text = self._header(b"x-start-time")
        return text.isdigit() and int(text) < moment * 1e9

    @property
    def call_id(self) -> str:
        """The call's id, from the edge or the client; empty without one."""
        return one_line(self._header(b"x-call-id")[:_MOST_ID].decode("latin-1"))

    def _header(self, name: bytes) -> bytes:
        for line in self.head.split(b"\r\n")[1:]:
            key, _, value = line.partition(b":")
            if key.strip().lower() == name:
                return value.strip()
        return b""

    def once(self) -> bytes:
        """The head, changed to close the connection after this request. An upgrade has its own Connection header,
        which stays."""
        if self._header(b"connection"):
            return self.head
        return self.head.removesuffix(b"\r\n") + b"Connection: close\r\n\r\n"


class WaitingRequests:
    """Takes requests from the sockets of ended instances, and answers them or passes them on."""

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks  # they outlive the instance whose requests they answer

    async def refuse_begun(
        self, listener: socket.socket, address: str, reason: str, ended_at: float, tell: Tell
    ) -> None:
        """Answer calls that an instance had begun when it ended (at `ended_at`, Unix seconds) with `reason`; pass
        all other requests on to `address`, where the successor will accept. Takes GATHER_SECONDS.

        The node gathers all requests before it answers the first: an answer makes room at the edge for calls that
        have waited there. A request that the edge does not retry (POST) has not begun, or it would not be here.
        """
        await asyncio.shield(self._spawn(self._refuse_begun(listener, address, reason, ended_at, tell)))

    async def _refuse_begun(
        self, listener: socket.socket, address: str, reason: str, ended_at: float, tell: Tell
    ) -> None:
        for request in await self._gather(listener, GATHER_SECONDS):
            if request.method in REPEATABLE and request.begun_before(ended_at):
                self._spawn(_refuse(request, f"{reason}; the call is not retried", tell))
            else:
                self._spawn(_pass_on_or_drop(request, address))

    async def serve_elsewhere(
        self, listener: socket.socket, reason: str, other: Callable[[], str | None], tell: Tell
    ) -> None:
        """Pass waiting and new requests on to the address that `other` finds, until cancelled. Answer with `reason`
        where it finds none in time. The pace is slow on purpose: the edge prefers instances with few requests, and
        would send more to a quick one."""
        while True:
            await asyncio.shield(self._spawn(self._serve_elsewhere(listener, reason, other, tell)))

    async def _serve_elsewhere(
        self, listener: socket.socket, reason: str, other: Callable[[], str | None], tell: Tell
    ) -> None:
        for request in await self._gather(listener, GATHER_SECONDS):
            self._spawn(_pass_on_or_refuse(request, reason, other, tell))

    def move(self, listener: socket.socket, address: str) -> None:
        """Pass the requests in `listener`, which accepts no more, on to `address`, and close it."""
        self._spawn(self._move(listener, address))

    async def _move(self, listener: socket.socket, address: str) -> None:
        with listener:
            await self.pass_on(listener, address)

    async def pass_on(self, listener: socket.socket, address: str) -> None:
        """Pass the requests in `listener` on to `address`."""
        for request in await self._gather(listener, 0.0):
            self._spawn(_pass_on_or_drop(request, address))

    async def _gather(self, listener: socket.socket, seconds: float) -> list[Request]:
        """Take the requests that wait now or arrive within `seconds`."""
        deadline = time.monotonic() + seconds
        reading: list[asyncio.Task[Request | None]] = []
        while True:
            came = _accept(listener, _MOST - len(reading))
            reading.extend(asyncio.create_task(_read(taken), name="read waiting requests") for taken in came)
            if time.monotonic() >= deadline:
                break
            await asyncio.sleep(_LOOK_SECONDS)
        return [request for request in await asyncio.gather(*reading) if request is not None]

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return self._tasks.spawn("answer a waiting request", work)


def _accept(listener: socket.socket, most: int) -> list[socket.socket]:
    """Accept waiting connections, at most `most`. The successor shares the socket, so its blocking mode is
    restored."""
    taken: list[socket.socket] = []
    descriptor = listener.fileno()
    if descriptor < 0:  # the instance has been put away
        return taken
    blocking = os.get_blocking(descriptor)
    os.set_blocking(descriptor, False)
    try:
        while len(taken) < most:
            taken.append(listener.accept()[0])
    except OSError:  # none left, or out of descriptors: the successor takes the rest
        pass
    finally:
        os.set_blocking(descriptor, blocking)
    return taken


async def _read(taken: socket.socket) -> Request | None:
    """Read the request on a connection; None if none comes within _HEAD_SECONDS."""
    taken.setblocking(False)
    reader, writer = await asyncio.open_connection(sock=taken, limit=_MOST_HEAD)
    try:
        async with asyncio.timeout(_HEAD_SECONDS):
            return Request(await reader.readuntil(_END), reader, writer)
    except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        writer.close()
        return None


async def _refuse(request: Request, reason: str, tell: Tell) -> None:
    tell(request.call_id, f"its instance ended: {reason}")
    with contextlib.suppress(OSError, TimeoutError):
        try:
            request.writer.write(_refusal(request, reason))
            request.writer.write_eof()
            # a close with unread data would look like a failure to the edge
            async with asyncio.timeout(_LINGER_SECONDS):
                while await request.reader.read(_CHUNK):
                    pass
        finally:
            request.writer.close()


def _refusal(request: Request, reason: str) -> bytes:
    body = f"the function's instance ended before its response was complete: {reason}\n".encode()
    head = (
        "HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/plain; charset=utf-8\r\nX-OpenFaaS-Internal: proxy\r\n"
        f"Cache-Control: no-cache\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (b"" if request.method == b"HEAD" else body)


async def _pass_on_or_drop(request: Request, address: str) -> None:
    if not await _pass_on(request, address):
        request.writer.close()


async def _pass_on(request: Request, address: str, unanswered: Callable[[], bytes] = bytes) -> bool:
    """Send the request to `address` and the response back, until both directions end. If the response ends before
    its first byte, send the bytes that `unanswered` makes. Return False if nothing accepts connections there;
    nothing has been sent then."""
    try:
        reader, writer = await _connect(address)
    except OSError:
        return False
    try:
        try:
            writer.write(request.once())
            async with asyncio.TaskGroup() as both:
                both.create_task(_copy(request.reader, writer))
                both.create_task(_copy(reader, request.writer, unanswered))
        finally:
            writer.close()
    except* OSError:
        pass  # one side is gone: the other sees its connection end
    finally:
        request.writer.close()
    return True


async def _connect(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if (where := tcp_address(address)) is not None:
        return await asyncio.open_connection(*where)
    return await asyncio.open_unix_connection(socket_path(address))


async def _pass_on_or_refuse(request: Request, reason: str, other: Callable[[], str | None], tell: Tell) -> None:
    """Pass the request on to another instance, once there is one: the controller starts one when it hears of the
    end. Refuse after _OTHER_SECONDS."""
    deadline = time.monotonic() + _OTHER_SECONDS

    def ended_too() -> bytes:  # a closed connection would make the edge retry once more
        why = f"{reason}; {_ENDED_TOO}"
        if not _has_left(request):
            tell(request.call_id, f"its instance ended: {why}")
        return _refusal(request, why)

    while (address := other()) is None or not await _pass_on(request, address, ended_too):
        if time.monotonic() >= deadline:
            await _refuse(request, reason, tell)
            break
        await asyncio.sleep(_LOOK_SECONDS)
        if _has_left(request):
            request.writer.close()
            break


def _has_left(request: Request) -> bool:
    """Whether the client is gone: the edge never half-closes a connection."""
    return request.reader.at_eof() or request.reader.exception() is not None


async def _copy(
    source: asyncio.StreamReader, target: asyncio.StreamWriter, instead: Callable[[], bytes] = bytes
) -> None:
    """Copy `source` to `target`, or the bytes that `instead` makes if nothing comes; then send end of file."""
    begun = False
    try:
        while chunk := await source.read(_CHUNK):
            begun = True
            target.write(chunk)
            await target.drain()
    finally:
        if not begun:
            target.write(instead())
    target.write_eof()
