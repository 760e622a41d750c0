"""The receiver parses bytes into requests, however the network splits them."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rescoldo.model.instance import Launch
from rescoldo.model.names import FunctionId, InstanceId
from rescoldo.runtime.events import Request
from rescoldo.runtime.http.protocol import Service
from rescoldo.runtime.http.receiver import BODY_RATE, BODY_SECONDS, MAX_HEADERS, MAX_TARGET, Receiver
from rescoldo.runtime.results import Response

HOST = b"Host: f\r\n"
READ = 8192  # bytes
PIPELINE = (
    b"GET /a?x=1 HTTP/1.1\r\nHost: f\r\nX-Call-Id: first\r\n\r\n"
    b"POST /b HTTP/1.1\r\nhost: f\r\nContent-Length: 5\r\nX-Timeout: 2s\r\n\r\nhello"
    b"POST /c HTTP/1.1\r\nHost: f\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nX-Trailer: t\r\n\r\n"
    b"GET /d HTTP/1.0\r\n\r\n"
)


@dataclass
class FakeLoop:
    now: float = 0.0

    def time(self) -> float:
        return self.now


@dataclass
class FakeService:
    launch: Launch = field(default_factory=lambda: Launch(InstanceId("i"), FunctionId("f.n"), "", max_body=100))
    loop: FakeLoop = field(default_factory=FakeLoop)
    function: bytes = b"f.n"


def receiver(service: FakeService | None = None) -> Receiver:
    return Receiver(cast(Service, service or FakeService()))


def shown(received: Receiver) -> list[Any]:
    """The received items in a comparable form."""
    return [
        (item.method, item.target, item.headers, item.body, item.call_id, item.timeout, item.keep_alive, item.http10)
        if isinstance(item, Request)
        else (item.status, item.body)
        for item in received.received
    ]


@given(cuts=st.sets(st.integers(1, len(PIPELINE) - 1)))
def test_requests_are_the_same_wherever_the_reads_end(cuts: set[int]) -> None:
    found = receiver()
    edges = [0, *sorted(cuts), len(PIPELINE)]
    for begin, end in pairwise(edges):
        found.feed(PIPELINE[begin:end])
    host = (b"host", b"f")
    length, timeout = (b"content-length", b"5"), (b"x-timeout", b"2s")
    assert shown(found) == [
        ("GET", b"/a?x=1", [host, (b"x-call-id", b"first")], b"", "first", b"", True, False),
        ("POST", b"/b", [host, length, timeout], b"hello", "", b"2s", True, False),
        ("POST", b"/c", [host, (b"transfer-encoding", b"chunked")], b"abcde", "", b"", True, False),
        ("GET", b"/d", [], b"", "", b"", False, True),
    ]
    assert (found.request, found.in_body, found.deaf) == (None, False, False)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),  # no Host
        (b"GET / HTTP/1.1\r\n" + 2 * HOST + b"\r\n", 400),
        (b"CONNECT f:1 HTTP/1.1\r\n" + HOST + b"\r\n", 405),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 101\r\n", 413),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n65\r\n" + 101 * b"x", 413),
        (b"GET /" + MAX_TARGET * b"x" + b" HTTP/1.1\r\n", 414),
        (b"GET / HTTP/1.1\r\nX-Rescoldo-Function: other.n\r\n", 421),
        (b"POST / HTTP/1.1\r\nExpect: tea\r\n", 417),
        (b"GET / HTTP/1.1\r\nX: " + 2 * (MAX_HEADERS + MAX_TARGET) * b"x", 431),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n", 501),
    ],
)
def test_a_refusal_follows_the_received_requests_and_is_the_last_item(sent: bytes, status: int) -> None:
    found = receiver()
    found.feed(b"GET /before HTTP/1.1\r\n" + HOST + b"\r\n")
    sent += b"\r\n"  # a header is complete when the next line begins
    for begin in range(0, len(sent), READ):
        found.feed(sent[begin : begin + READ])
    before, refused = found.received
    assert isinstance(before, Request) and isinstance(refused, Response)
    assert (before.target, refused.status) == (b"/before", status)
    assert found.deaf
    assert (found.request, found.in_body) == (None, False)


def test_bytes_after_a_request_that_closes_the_connection_are_ignored() -> None:
    found = receiver()
    found.feed(b"GET /last HTTP/1.1\r\nConnection: close\r\n" + HOST + b"\r\nGET /more HTTP/1.1\r\n" + HOST + b"\r\n")
    assert [item.target for item in found.received if isinstance(item, Request)] == [b"/last"]
    assert found.deaf


def test_a_client_awaits_100_until_it_sends_its_body() -> None:
    found = receiver()
    found.feed(b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n" + HOST + b"\r\n")
    assert (found.awaits_continue, found.in_body) == (True, True)
    found.feed(b"a")
    assert (found.awaits_continue, found.in_body) == (False, True)
    found.feed(b"b")
    assert (found.request, found.in_body) == (None, False)


def test_the_deadline_of_a_body_grows_with_the_received_bytes() -> None:
    service = FakeService()
    found = receiver(service)
    service.loop.now = 5.0
    found.feed(b"POST / HTTP/1.1\r\nContent-Length: 99\r\n" + HOST + b"\r\n" + 50 * b"x")
    assert found.body_due() == 5.0 + BODY_SECONDS + 50 / BODY_RATE
    found.restart_body(20.0)
    assert found.body_due() == 20.0 + BODY_SECONDS + 50 / BODY_RATE


def test_nothing_is_kept_of_a_lost_connection() -> None:
    found = receiver()
    found.feed(PIPELINE[:-30])
    found.forget()
    assert (list(found.received), found.deaf) == ([], True)
