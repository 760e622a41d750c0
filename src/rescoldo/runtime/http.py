"""One client's connection: HTTP/1.1 on httptools.

Guarantees:
- requests of one connection are answered one after another, in order; while one is being answered at most
  one read's worth of further ones is kept;
- a message that is not HTTP, or over a limit, gets one clear answer and the connection ends; nothing after it
  is looked at;
- what is held per connection is bounded: the header section, the body by launch.max_body, and one read.
"""

from __future__ import annotations

import asyncio
import os
import select
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, cast

import httptools

from rescoldo.runtime.calls import Call
from rescoldo.runtime.events import Request, split_target
from rescoldo.runtime.head import (
    CHUNKED,
    CLOSE,
    CONTINUE,
    KEEP_ALIVE,
    LAST_CHUNK,
    encode_framed,
    encode_head,
)
from rescoldo.runtime.results import Response, refusal

if TYPE_CHECKING:
    from rescoldo.runtime.server import Server

MAX_HEADERS = 64 * 2**10  # bytes of a header section
MAX_TARGET = 16 * 2**10  # bytes; HAProxy's whole request head is 16 KiB by default
BODY_SECONDS = 60.0  # in which a body must have come
BODY_RATE = 4 * 2**10  # bytes for which it has a second more: a byte now and then would hold a place for ever
LINGER = 1.0  # seconds in which a refused client may read its answer before the connection is cut


class _Refused(Exception):
    """Leaves the parser after a refusal."""


class Connection(asyncio.Protocol):
    """A client, HAProxy as a rule."""

    __slots__ = (
        "_active", "_body", "_body_began", "_body_size", "_body_timed", "_call", "_chunked", "_continue", "_deaf",
        "_eof", "_fed", "_fresh", "_head_only", "_head_size", "_host_seen", "_in_head", "_on_writable", "_parser",
        "_paused", "_queue", "_request", "_server", "_transport", "_turning", "_wanted_function", "_writable",
    )  # fmt: skip

    def __init__(self, server: Server) -> None:
        self._server = server
        self._parser = httptools.HttpRequestParser(self)
        self._queue: deque[Request | Response] = deque()  # a Response is a refusal, and the last
        self._request: Request | None = None  # being received
        self._active: Request | None = None  # being answered
        self._call: Call | None = None  # its handler's call
        self._continue = False  # the client waits for 100 before it sends the body
        self._deaf = False  # refused: what still comes is dropped
        self._eof = False  # the client sends no more
        self._fresh = True  # no handler was called for it yet
        self._paused = False  # reading is paused
        self._turning = False  # inside _turn
        self._writable = True
        self._on_writable: Callable[[], None] | None = None
        self._body_timed = False  # a timer runs, of a body that takes more than one read
        self._begin_message()

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._server.connection_came(self, self._transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._deaf = True
        self._begin_message()  # what came of a body is not kept
        self._queue.clear()
        self._active = None
        self._tell_call()
        self.resume_writing()
        self._server.connection_over(self)

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        unfinished = self._request
        self._feed(data)
        if self._in_head and self._request is unfinished and self._request is not None and not self._deaf:
            # httptools shows a header only when it is whole: an endless one is seen here
            self._fed += len(data)
            if self._fed > MAX_HEADERS + MAX_TARGET:
                self._refuse(431, f"the header section is larger than {MAX_HEADERS} bytes")
        if not (self._request is None or self._in_head or self._body_timed):
            self._body_timed = True
            self._server.loop.call_later(BODY_SECONDS, self._look_at_body)
        self._turn()

    def eof_received(self) -> bool:
        self._eof = True
        if self._active is None and not self._queue:
            return False
        if not self.has_left():
            return True  # half-closed: answer first
        self._tell_call()  # before the loop does anything else: the handler may be about to begin
        return False

    def _tell_call(self) -> None:
        """The client has left."""
        call, self._call = self._call, None
        if call is not None:
            call.client_left()

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        callback, self._on_writable = self._on_writable, None
        if callback is not None:
            callback()
        self._turn()

    # -- receiving

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            # No other protocol is spoken here; a server may ignore the wish (RFC 9110, 7.8).
            rest = data[upgrade.args[0] :]
            if rest:
                self._feed(rest)
        except httptools.HttpParserError:
            if not self._deaf:
                self._refuse(400, "the request is not valid HTTP/1.1")

    def _begin_message(self) -> None:
        self._in_head = True
        self._head_size = 0  # of the whole headers so far
        self._fed = 0  # of the reads that did not end the section
        self._body_size = 0
        self._body: list[bytes] = []
        self._host_seen = 0
        self._wanted_function = b""

    def on_message_begin(self) -> None:
        if self._queue and isinstance(self._queue[-1], Request) and not self._queue[-1].keep_alive:
            self._deaf = True  # after "Connection: close" nothing counts
            raise _Refused
        self._begin_message()
        self._request = Request()

    def on_url(self, url: bytes) -> None:
        assert self._request is not None
        self._request.target += url
        if len(self._request.target) > MAX_TARGET:
            self._refuse(414, f"the request target is longer than {MAX_TARGET} bytes")
            raise _Refused

    def on_header(self, name: bytes, value: bytes | None) -> None:
        value = value or b""
        self._head_size += len(name) + len(value) + 4
        if self._head_size > MAX_HEADERS:
            self._refuse(431, f"the header section is larger than {MAX_HEADERS} bytes")
            raise _Refused
        if not self._in_head:
            return  # a trailer: counted, not kept
        assert self._request is not None
        name = name.lower()
        if note := _NOTED.get(name):
            note(self, self._request, value)
        if name != b"x-rescoldo-function":
            self._request.headers.append((name, value))

    def _note_host(self, request: Request, value: bytes) -> None:
        self._host_seen += 1

    def _note_function(self, request: Request, value: bytes) -> None:
        if value != self._server.function:
            self._refuse(421, "misdirected")
            raise _Refused

    def _note_length(self, request: Request, value: bytes) -> None:
        if value.isdigit():
            self._check_size(int(value[:20]))

    def _note_coding(self, request: Request, value: bytes) -> None:
        if value.strip().lower() != b"chunked":  # the handler would get the body still coded (RFC 9112, 6.1)
            self._refuse(501, "only the transfer coding chunked is understood")
            raise _Refused

    def _note_expect(self, request: Request, value: bytes) -> None:
        if value.lower() == b"100-continue":
            self._continue = True
        else:
            self._refuse(417, "only 100-continue may be expected")
            raise _Refused

    def _note_call_id(self, request: Request, value: bytes) -> None:
        request.call_id = value.decode("latin-1")

    def _note_timeout(self, request: Request, value: bytes) -> None:
        request.timeout = value

    def on_headers_complete(self) -> None:
        request = self._request
        assert request is not None
        self._in_head = False
        self._head_size, self._body_began = 0, self._server.loop.time()  # trailers get the same allowance
        request.method = self._parser.get_method().decode("latin-1")
        request.keep_alive = self._parser.should_keep_alive()
        request.http10 = self._parser.get_http_version() == "1.0"
        if request.http10:
            self._continue = False  # HTTP/1.0 knows no 100
        elif self._host_seen != 1:
            self._refuse(400, "an HTTP/1.1 request needs one Host header")
            raise _Refused
        if not request.target.startswith(b"/"):
            self._check_target(request)

    def _check_target(self, request: Request) -> None:
        try:
            split_target(request.target)
        except ValueError:
            self._refuse(400, "the request target is not valid")
            raise _Refused from None
        if request.method == "CONNECT":
            self._refuse(405, "a function is no proxy")
            raise _Refused

    def on_body(self, data: bytes) -> None:
        self._continue = False  # sent without waiting
        self._body_size += len(data)
        self._check_size(self._body_size)
        self._body.append(data)

    def _check_size(self, size: int) -> None:
        limit = self._server.launch.max_body
        if limit and size > limit:
            self._refuse(413, f"the body is larger than {limit} bytes")
            raise _Refused

    def _look_at_body(self) -> None:
        now, self._body_timed = self._server.loop.time(), False
        if self._request is None or self._in_head:
            return
        if self._active is not None or self._queue:
            self._body_began = now  # one before it is being answered: it may be us who do not read
        left = self._body_began + BODY_SECONDS + self._body_size / BODY_RATE - now
        if left > 0:
            self._body_timed = True
            self._server.loop.call_later(left, self._look_at_body)
        else:
            self._refuse(408, "the body did not arrive in time")
            self._turn()

    def on_message_complete(self) -> None:
        request = self._request
        assert request is not None
        request.body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body = []
        self._request = None
        self._continue = False
        self._queue.append(request)

    def _refuse(self, status: int, text: str) -> None:
        self._deaf = True
        self._continue = False
        self._request = None
        self._body = []
        self._queue.append(refusal(status, text))

    # -- answering, one after another

    def _turn(self) -> None:
        """Start what can be started: a loop, for one read may hold thousands of requests. A client that does
        not read its answers gets no more of them."""
        if self._turning or self._transport.is_closing():
            return
        self._turning = True
        while self._active is None and self._queue and self._writable and not self._transport.is_closing():
            item = self._queue.popleft()
            if isinstance(item, Response):
                self._send_refusal(item)
            else:
                self._active = item
                # of a new connection the loop tells the end later than what came before it
                self._call = self._server.dispatch(self, item, fresh=self._fresh)
                self._fresh = False
                if self._active is None:
                    self._call = None
        self._turning = False
        if self._continue and self._active is None and not self._queue:
            self._continue = False
            self._transport.write(CONTINUE)
        self._keep_pace()

    def _keep_pace(self) -> None:
        """Read on unless a further request waits already, or answers do."""
        if (bool(self._queue) or not self._writable) != self._paused and not self._transport.is_closing():
            self._paused = not self._paused
            if self._paused:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def _send_refusal(self, response: Response) -> None:
        body = cast(bytes, response.body)
        self._transport.write(encode_head(response, len(body), CLOSE, 0.0) + body)
        self._queue.clear()
        # Closing while the client still sends could take the answer away from it (RFC 9112, 9.6).
        if self._eof or not self._transport.can_write_eof():
            self._transport.close()
        else:
            self._transport.write_eof()
            self._server.loop.call_later(LINGER, self._transport.abort)

    def _fields(self, request: Request, *, chunked: bool = False) -> bytes:
        framing = CHUNKED if chunked else b""
        if not request.keep_alive or self._server.draining or self._eof:
            request.keep_alive = False
            return framing + CLOSE
        return framing + KEEP_ALIVE if request.http10 else framing

    def answer(self, response: Response, seconds: float) -> None:
        """Send the whole response to the active request; see calls.Client."""
        request = self._active
        if request is None or self._transport.is_closing():
            return
        body = cast(bytes, response.body)
        head = encode_head(response, len(body), self._fields(request), seconds)
        self._transport.write(head if request.method == "HEAD" else head + body)
        self._next(request)

    def answer_at_once(self, response: Response, seconds: float) -> None:
        """See calls.Client."""
        socket = self._transport.get_extra_info("socket")
        if self._active is not None and socket is not None:
            body = cast(bytes, response.body)
            with suppress(OSError):
                os.write(socket.fileno(), encode_head(response, len(body), CLOSE, seconds) + body)

    def begin(self, response: Response, seconds: float) -> bool:
        """Send the head of a stream; see calls.Client."""
        request = self._active
        if request is None or self._transport.is_closing():
            return False
        self._chunked = not request.http10
        if request.http10:
            request.keep_alive = False  # its body ends with the connection
        self._head_only = request.method == "HEAD"
        fields = self._fields(request, chunked=self._chunked)
        self._transport.write(encode_head(response, None, fields, seconds))
        return not self._head_only

    def send(self, data: bytes) -> None:
        """Send a piece of the stream; see calls.Client."""
        if not self._transport.is_closing():
            self._transport.write(encode_framed(data) if self._chunked else data)

    def end(self) -> None:
        """End the stream; see calls.Client."""
        request = self._active
        if request is not None and not self._transport.is_closing():
            if self._chunked and not self._head_only:
                self._transport.write(LAST_CHUNK)
            self._next(request)

    def abort(self) -> None:
        """Cut the stream: what was sent still arrives, but no last chunk; see calls.Client."""
        self._active = self._call = None
        self._transport.close()

    def when_writable(self, callback: Callable[[], None]) -> None:
        """See calls.Client."""
        if self._writable or self._transport.is_closing():
            callback()
        else:
            self._on_writable = callback

    def has_left(self) -> bool:
        """See calls.Client. Seen at the socket: nothing more is read of a client that has closed its sending half, or
        sent further requests."""
        if self._transport.is_closing():
            return True
        poll = select.poll()
        poll.register(self._transport.get_extra_info("socket"), 0)
        return any(event & (select.POLLHUP | select.POLLERR) for _, event in poll.poll(0))

    def _next(self, request: Request) -> None:
        self._active = self._call = None
        if self._queue and self.has_left():
            self._transport.abort()
        elif not request.keep_alive or (self._server.draining and not self._queue):
            self._queue.clear()
            self._transport.close()
        else:
            self._turn()

    # -- the end of the server

    def close_if_idle(self) -> None:
        """Close unless a request is being received or answered."""
        if self._active is None and self._request is None and not self._queue:
            self._transport.close()

    def cut_unless_called(self) -> None:
        """Close at once unless the handler is at work for it."""
        if self._call is None:
            self._transport.abort()


_NOTED: dict[bytes, Callable[[Connection, Request, bytes], None]] = {
    b"host": Connection._note_host,
    b"content-length": Connection._note_length,
    b"transfer-encoding": Connection._note_coding,
    b"expect": Connection._note_expect,
    b"x-rescoldo-function": Connection._note_function,
    b"x-call-id": Connection._note_call_id,
    b"x-timeout": Connection._note_timeout,
}
