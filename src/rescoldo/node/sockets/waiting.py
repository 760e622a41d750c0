"""Requests that wait in an instance's listening socket, and that its successor cannot take or must not be given.

The edge sends what an instance's end has cut off once more, to the same socket. Mostly that is all there is to it: the
successor serves what waits. Here is the rest:

* An instance that ran out of memory is not given the same call twice: what it had begun is answered with the reason.
  Everything else that waits is passed on to the successor.
* Where there will be no successor on this socket, another instance of the function takes what waits; or else it is
  answered with the reason, rather than left until its time limit.
* A socket that the function has shut down takes no more requests; those that it has are passed on to the next socket.
* A program that does not listen at its TCP port for a moment gets what came to its stand-in meanwhile.

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

Tell = Callable[[str, str], None]  # is given the id of a call that was answered here, and the reason

REPEATABLE = frozenset((b"GET", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"TRACE"))  # what the edge sends once more
GATHER_SECONDS = 0.1  # from an instance's end until the edge has seen it and sent again what it sends again
_LOOK_SECONDS = 0.01
_MOST = 1024  # requests taken at once: as many as can wait in the socket
_MOST_HEAD = 64 * 1024  # bytes of a request's head; the edge takes 16 KiB
_HEAD_SECONDS = 1.0  # for a head: the edge sends it as soon as it has connected
_OTHER_SECONDS = 5.0  # for another instance, where one that ended is not replaced on its socket
_LINGER_SECONDS = 1.0  # for the edge to read an answer and let go
_MOST_ID = 100  # bytes of a call's id, which may be the client's
_ENDED_TOO = "its replacement ended, too; the call is not retried"
_CHUNK = 64 * 1024  # bytes passed on at once
_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Request:
    """A request that was taken from a socket: its head as it came, and its connection."""

    head: bytes  # with the empty line
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @property
    def method(self) -> bytes:
        return self.head.partition(b" ")[0]

    def begun_before(self, moment: float) -> bool:
        """Whether the edge got it before `moment` (seconds since 1970), as it says itself (X-Start-Time,
        nanoseconds)."""
        text = self._header(b"x-start-time")
        return text.isdigit() and int(text) < moment * 1e9

    @property
    def call_id(self) -> str:
        """What the edge, or the client, calls it; empty where nobody does."""
        return one_line(self._header(b"x-call-id")[:_MOST_ID].decode("latin-1"))

    def _header(self, name: bytes) -> bytes:
        for line in self.head.split(b"\r\n")[1:]:
            key, _, value = line.partition(b":")
            if key.strip().lower() == name:
                return value.strip()
        return b""

    def once(self) -> bytes:
        """The head, so that the connection serves this request alone. An upgrade says already what is to become of
        it."""
        if self._header(b"connection"):
            return self.head
        return self.head.removesuffix(b"\r\n") + b"Connection: close\r\n\r\n"


class WaitingRequests:
    """Takes requests from the sockets of instances that have ended."""

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks  # in which requests are answered, whatever becomes of their instance

    async def refuse_begun(
        self, listener: socket.socket, address: str, reason: str, ended_at: float, tell: Tell
    ) -> None:
        """Answer what an instance had begun when it ended (at `ended_at`, seconds since 1970) with `reason`; pass
        everything else on to `address`, where the successor will accept. Takes GATHER_SECONDS.

        Nothing is answered before all have come: an answer makes room at the edge, for calls that have waited there.
        What is not sent again (POST) has not begun, or it would not be here.
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
        """Pass what waits, and what comes, on to the address that `other` finds, until cancelled. Where it finds none
        in time, the answer is `reason`. Slowly: the edge prefers instances that have few requests."""
        while True:
            await asyncio.shield(self._spawn(self._serve_elsewhere(listener, reason, other, tell)))

    async def _serve_elsewhere(
        self, listener: socket.socket, reason: str, other: Callable[[], str | None], tell: Tell
    ) -> None:
        for request in await self._gather(listener, GATHER_SECONDS):
            self._spawn(_pass_on_or_refuse(request, reason, other, tell))

    def move(self, listener: socket.socket, address: str) -> None:
        """Pass what waits in `listener`, which takes no more, on to `address`, and close it."""
        self._spawn(self._move(listener, address))

    async def _move(self, listener: socket.socket, address: str) -> None:
        with listener:
            await self.pass_on(listener, address)

    async def pass_on(self, listener: socket.socket, address: str) -> None:
        """Pass what waits in `listener` on to `address`."""
        for request in await self._gather(listener, 0.0):
            self._spawn(_pass_on_or_drop(request, address))

    async def _gather(self, listener: socket.socket, seconds: float) -> list[Request]:
        """The requests that wait now or come within `seconds`."""
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
    """The connections that wait, at most `most`. The socket is the successor's, too: what it says of blocking stays."""
    taken: list[socket.socket] = []
    descriptor = listener.fileno()
    if descriptor < 0:  # the instance has been put away
        return taken
    blocking = os.get_blocking(descriptor)
    os.set_blocking(descriptor, False)
    try:
        while len(taken) < most:
            taken.append(listener.accept()[0])
    except OSError:  # no more; or no descriptors: the successor will have what is left
        pass
    finally:
        os.set_blocking(descriptor, blocking)
    return taken


async def _read(taken: socket.socket) -> Request | None:
    """The request that comes on a connection; None if there is none."""
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
            async with asyncio.timeout(_LINGER_SECONDS):  # a close with something unread would look like a failure
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
    """Send the request to `address` and its answer back, what `unanswered` makes if that ends before it begins; as long
    as both sides go on with it. False: nobody takes connections there, and nothing has been done."""
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
    """Wait for an instance that can take the request: the controller starts one when it hears of the end."""
    deadline = time.monotonic() + _OTHER_SECONDS

    def ended_too() -> bytes:  # an end of its connection would have the edge send it yet another time
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
    """Whether its client is gone; the edge never ends its side alone."""
    return request.reader.at_eof() or request.reader.exception() is not None


async def _copy(
    source: asyncio.StreamReader, target: asyncio.StreamWriter, instead: Callable[[], bytes] = bytes
) -> None:
    """Copy all that comes from `source`, or what `instead` makes if nothing comes."""
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
