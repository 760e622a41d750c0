"""Receives requests from the bytes of one connection, with httptools.

Memory is bounded: the header section, the body (launch.max_body) and one read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NoReturn

import httptools

from rescoldo.runtime.events import Request, split_target
from rescoldo.runtime.http.protocol import Service
from rescoldo.runtime.results import Response, refusal

MAX_HEADERS = 64 * 2**10  # bytes of one header section
MAX_TARGET = 16 * 2**10  # bytes; HAProxy's whole request head is 16 KiB by default
BODY_SECONDS = 60.0  # a body has this long to arrive, plus 1 s for each BODY_RATE bytes
BODY_RATE = 4 * 2**10  # bytes a second; without it a client that sends single bytes would hold a place for ever


class _Refused(Exception):
    """Leaves the parser after a refusal."""


class Receiver:
    """Puts requests into `received` in order of arrival. A refusal is always the last item. httptools calls the
    methods named `on_...`."""

    __slots__ = (
        "_body", "_body_began", "_body_size", "_fed", "_head_size", "_host_seen", "_parser", "_service",
        "awaits_continue", "deaf", "in_body", "received", "request",
    )  # fmt: skip

    def __init__(self, service: Service) -> None:
        self._service = service
        self._parser = httptools.HttpRequestParser(self)
        self.received: deque[Request | Response] = deque()  # a Response is a refusal
        self.request: Request | None = None  # the request being received
        self.awaits_continue = False  # the client waits for 100 Continue before it sends the body
        self.in_body = False  # the head of `request` is complete; its body and trailers follow
        self.deaf = False  # further bytes are dropped
        self._begin_message()

    def _begin_message(self) -> None:
        self.in_body = False
        self._head_size = 0  # bytes of the complete headers so far
        self._fed = 0  # bytes of the reads that did not complete the section
        self._body_size = 0
        self._body: list[bytes] = []
        self._host_seen = 0

    def feed(self, data: bytes) -> None:
        """Parse the bytes of one read."""
        unfinished = self.request
        self._parse(data)
        if self.request is not None and self.request is unfinished and not self.in_body:
            # httptools reports a header only once it is complete, so an endless header must be detected here.
            self._fed += len(data)
            if self._fed > MAX_HEADERS + MAX_TARGET:
                self.refuse(431, f"the header section is larger than {MAX_HEADERS} bytes")

    def restart_body(self, now: float) -> None:
        """Restart the body's clock: a delay until `now` was not the client's fault."""
        self._body_began = now

    def body_due(self) -> float:
        """Return the loop time by which the body, or more of it, must have arrived.

        Worked: with BODY_SECONDS 60 and 4 KiB/s, 100 s after the body began if 160 KiB have arrived.
        """
        return self._body_began + BODY_SECONDS + self._body_size / BODY_RATE

    def forget(self) -> None:
        """Drop everything received: the connection is lost."""
        self.deaf = True
        self._begin_message()
        self.received.clear()

    def refuse(self, status: int, text: str) -> None:
        """Refuse with `status` after the requests received so far; drop all further bytes."""
        self.deaf = True
        self.awaits_continue = False
        self.request = None
        self.in_body = False
        self._body = []
        self.received.append(refusal(status, text))

    def _stop(self, status: int, text: str) -> NoReturn:
        self.refuse(status, text)
        raise _Refused

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            # This server speaks no other protocol; a server may ignore an Upgrade header (RFC 9110, 7.8).
            rest = data[upgrade.args[0] :]
            if rest:
                self._parse(rest)
        except httptools.HttpParserError:
            if not self.deaf:  # else httptools has wrapped our own _Refused
                self.refuse(400, "the request is not valid HTTP/1.1")

    # -- the head

    def on_message_begin(self) -> None:
        if self.received and isinstance(self.received[-1], Request) and not self.received[-1].keep_alive:
            self.deaf = True  # requests after "Connection: close" do not count
            raise _Refused
        self._begin_message()
        self.request = Request()

    def on_url(self, url: bytes) -> None:
        assert self.request is not None
        self.request.target += url
        if len(self.request.target) > MAX_TARGET:
            self._stop(414, f"the request target is longer than {MAX_TARGET} bytes")

    def on_header(self, name: bytes, value: bytes | None) -> None:
        value = value or b""
        self._head_size += len(name) + len(value) + 4
        if self._head_size > MAX_HEADERS:
            self._stop(431, f"the header section is larger than {MAX_HEADERS} bytes")
        if self.in_body:
            return  # a trailer: counted, not kept
        assert self.request is not None
        name = name.lower()
        if note := _NOTED.get(name):
            note(self, self.request, value)
        if name != b"x-rescoldo-function":
            self.request.headers.append((name, value))

    def _note_host(self, request: Request, value: bytes) -> None:
        self._host_seen += 1

    def _note_function(self, request: Request, value: bytes) -> None:
        if value != self._service.function:
            self._stop(421, "misdirected")

    def _note_length(self, request: Request, value: bytes) -> None:
        if value.isdigit():
            self._check_size(int(value[:20]))

    def _note_coding(self, request: Request, value: bytes) -> None:
        if value.strip().lower() != b"chunked":  # the handler would get the body still encoded (RFC 9112, 6.1)
            self._stop(501, "chunked is the only transfer coding supported")

    def _note_expect(self, request: Request, value: bytes) -> None:
        if value.lower() == b"100-continue":
            self.awaits_continue = True
        else:
            self._stop(417, "100-continue is the only expectation supported")

    def _note_call_id(self, request: Request, value: bytes) -> None:
        request.call_id = value.decode("latin-1")

    def _note_timeout(self, request: Request, value: bytes) -> None:
        request.timeout = value

    def on_headers_complete(self) -> None:
        request = self.request
        assert request is not None
        self.in_body = True
        self._head_size, self._body_began = 0, self._service.loop.time()  # trailers get the same allowance
        request.method = self._parser.get_method().decode("latin-1")
        request.keep_alive = self._parser.should_keep_alive()
        request.http10 = self._parser.get_http_version() == "1.0"
        if request.http10:
            self.awaits_continue = False  # HTTP/1.0 has no 100 Continue
        elif self._host_seen != 1:
            self._stop(400, "an HTTP/1.1 request needs one Host header")
        if not request.target.startswith(b"/"):
            self._check_target(request)

    def _check_target(self, request: Request) -> None:
        try:
            split_target(request.target)
        except ValueError:
            self._stop(400, "the request target is not valid")
        if request.method == "CONNECT":
            self._stop(405, "CONNECT is not supported")

    # -- the body

    def on_body(self, data: bytes) -> None:
        self.awaits_continue = False  # the client did not wait
        self._body_size += len(data)
        self._check_size(self._body_size)
        self._body.append(data)

    def _check_size(self, size: int) -> None:
        limit = self._service.launch.max_body
        if limit and size > limit:
            self._stop(413, f"the body is larger than {limit} bytes")

    def on_message_complete(self) -> None:
        request = self.request
        assert request is not None
        request.body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body = []
        self.request = None
        self.in_body = self.awaits_continue = False
        self.received.append(request)


_NOTED: dict[bytes, Callable[[Receiver, Request, bytes], None]] = {
    b"host": Receiver._note_host,
    b"content-length": Receiver._note_length,
    b"transfer-encoding": Receiver._note_coding,
    b"expect": Receiver._note_expect,
    b"x-rescoldo-function": Receiver._note_function,
    b"x-call-id": Receiver._note_call_id,
    b"x-timeout": Receiver._note_timeout,
}
