"""Responds to one request and decides whether the connection stays open."""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import Callable
from contextlib import suppress

from rescoldo.runtime.calls.protocol import Pending
from rescoldo.runtime.events import Request
from rescoldo.runtime.http.flow import FlowControl
from rescoldo.runtime.http.head import CHUNKED, CLOSE, KEEP_ALIVE, LAST_CHUNK, encode_framed, encode_head
from rescoldo.runtime.http.protocol import Service
from rescoldo.runtime.results import Response

LINGER = 1.0  # seconds a refused client has to read its response before the connection is cut


class Responder:
    """Answers `request`, whose turn it is on a connection. Implements calls.protocol.Client."""

    __slots__ = (
        "_answered", "_chunked", "_flow", "_head_only", "_service", "_transport", "call", "eof", "request",
    )  # fmt: skip

    def __init__(
        self, service: Service, transport: asyncio.Transport, flow: FlowControl, answered: Callable[[Request], None]
    ) -> None:
        """`answered` is called with `request` once its whole response is written; it sets the next request."""
        self._service = service
        self._transport = transport
        self._flow = flow
        self._answered = answered
        self.request: Request | None = None
        self.call: Pending | None = None  # the handler's call for `request`
        self.eof = False  # the client sends no more: the connection closes after this response

    def answer(self, response: Response, seconds: float) -> None:
        """See Client."""
        request = self.request
        if request is None or self._transport.is_closing():
            return
        body = response.body
        assert isinstance(body, bytes)
        head = encode_head(response, len(body), self._fields(request), seconds)
        self._transport.write(head if request.method == "HEAD" else head + body)
        self._answered(request)

    def answer_at_once(self, response: Response, seconds: float) -> None:
        """See Client."""
        socket = self._transport.get_extra_info("socket")
        if self.request is not None and socket is not None:
            assert isinstance(response.body, bytes)
            with suppress(OSError):
                os.write(socket.fileno(), encode_head(response, len(response.body), CLOSE, seconds) + response.body)

    def begin(self, response: Response, seconds: float) -> bool:
        """See Client."""
        request = self.request
        if request is None or self._transport.is_closing():
            return False
        self._chunked = not request.http10
        if request.http10:
            request.keep_alive = False  # the end of the connection marks the end of its body
        self._head_only = request.method == "HEAD"
        fields = self._fields(request, chunked=self._chunked)
        self._transport.write(encode_head(response, None, fields, seconds))
        return not self._head_only

    def send(self, data: bytes) -> None:
        """See Client."""
        if not self._transport.is_closing():
            self._transport.write(encode_framed(data) if self._chunked else data)

    def end(self) -> None:
        """See Client."""
        request = self.request
        if request is not None and not self._transport.is_closing():
            if self._chunked and not self._head_only:
                self._transport.write(LAST_CHUNK)
            self._answered(request)

    def abort(self) -> None:
        """See Client. Bytes already written still arrive, but no last chunk."""
        self.request = self.call = None
        self._transport.close()

    def when_writable(self, callback: Callable[[], None]) -> None:
        """See Client."""
        self._flow.when_writable(callback)

    def has_left(self) -> bool:
        """See Client. Checked at the socket: the loop no longer reads from a client that has closed its sending half or
        sent further requests, so it cannot report the end."""
        if self._transport.is_closing():
            return True
        poll = select.poll()
        poll.register(self._transport.get_extra_info("socket"), 0)
        return any(event & (select.POLLHUP | select.POLLERR) for _, event in poll.poll(0))

    def refuse(self, response: Response) -> None:
        """Send a refusal and end the connection."""
        assert isinstance(response.body, bytes)
        self._transport.write(encode_head(response, len(response.body), CLOSE, 0.0) + response.body)
        # Closing while the client still sends could reset the connection before the client reads the response (RFC
        # 9112, 9.6).
        if self.eof or not self._transport.can_write_eof():
            self._transport.close()
        else:
            self._transport.write_eof()
            self._service.loop.call_later(LINGER, self._transport.abort)

    def _fields(self, request: Request, *, chunked: bool = False) -> bytes:
        framing = CHUNKED if chunked else b""
        if not request.keep_alive or self._service.draining or self.eof:
            request.keep_alive = False
            return framing + CLOSE
        return framing + KEEP_ALIVE if request.http10 else framing
