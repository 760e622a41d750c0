"""From a handler's result to a response, and the bytes of its head."""

from __future__ import annotations

import datetime
import decimal
import json
import re
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rescoldo.runtime.http.head import encode_framed, encode_head
from rescoldo.runtime.results import (
    HTML,
    JSON,
    OCTETS,
    TEXT,
    InvalidResponse,
    Response,
    encode_chunk,
    refusal,
    respond,
    respond_classic,
)

LINE = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+: [^\x00-\x08\x0a-\x1f\x7f]*\r\n")
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
anything = st.one_of(
    json_values,
    st.binary(),
    st.tuples(st.text(), st.integers()),
    st.fixed_dictionaries(
        {},
        optional={
            "statusCode": st.integers(-10, 1000) | st.text(max_size=4) | st.booleans() | st.none(),
            "body": json_values | st.binary(),
            "headers": st.dictionaries(st.text(max_size=9), st.text() | st.integers() | st.lists(st.text()))
            | st.lists(st.tuples(st.text(), st.text()))
            | json_values,
        },
    ),
)


async def pieces() -> AsyncIterator[str]:
    yield "a"


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (None, Response(200, b"", b"")),
        ("é", Response(200, HTML, b"\xc3\xa9")),
        (b"\xff", Response(200, OCTETS, b"\xff")),
        (bytearray(b"a"), Response(200, OCTETS, b"a")),
        (memoryview(b"a"), Response(200, OCTETS, b"a")),
        ({}, Response(200, JSON, b"{}\n")),
        ([], Response(200, JSON, b"[]\n")),
        ({"a": 1.5}, Response(200, JSON, b'{"a":1.5}\n')),
        ({"statusCode": 404}, Response(404, b"", b"")),
        ({"statusCode": HTTPStatus.CREATED, "body": "x"}, Response(201, HTML, b"x")),
        ({"statusCode": "202"}, Response(202, b"", b"")),
        ({"body": {"a": [1]}}, Response(200, JSON, b'{"a":[1]}\n')),
        ({"z": "é", "a": None}, Response(200, JSON, b'{"a":null,"z":"\\u00e9"}\n')),
        ({1: 1, "a": 2}, Response(200, JSON, b'{"1":1,"a":2}\n')),
        (("body", 404), Response(404, HTML, b"body")),
        (("body", "404 NOT FOUND"), Response(404, HTML, b"body")),
        (("body", {"X-A": "1"}), Response(200, b"X-A: 1\r\n" + HTML, b"body")),
        (("body", [("X-A", "1")]), Response(200, b"X-A: 1\r\n" + HTML, b"body")),
        (({"a": 1}, 201, {"X-A": "1"}), Response(201, b"X-A: 1\r\n" + JSON, b'{"a":1}\n')),
        ((b"x", 200, {"Content-Type": "a/b"}), Response(200, b"Content-Type: a/b\r\n", b"x")),
        ((None, 204), Response(204, b"", b"")),
        ({"body": 7}, Response(200, HTML, b"7")),
        ({"body": b"x", "headers": None}, Response(200, OCTETS, b"x")),
        ({"body": "x", "headers": {"CONTENT-TYPE": "a/b"}}, Response(200, b"CONTENT-TYPE: a/b\r\n", b"x")),
        ({"headers": [("X-A", "1"), ("X-A", " 2 ")]}, Response(200, b"X-A: 1\r\nX-A: 2\r\n", b"")),
        ({"headers": {"X-N": 7, "X-L": ["a", "b"]}}, Response(200, b"X-N: 7\r\nX-L: a\r\nX-L: b\r\n", b"")),
        ({"headers": {"X-U": "é"}}, Response(200, b"X-U: \xe9\r\n", b"")),
        ({"headers": {"content-length": "5", "Te": "x", "Date": "never"}}, Response(200, b"", b"")),
        ({"statusCode": 204, "body": "x"}, Response(204, HTML, b"")),
    ],
)
def test_a_result_becomes_a_response(result: object, expected: Response) -> None:
    assert respond(result) == expected


@pytest.mark.parametrize(
    "result",
    [
        (), ("body",), ("body", 200, {}, 1), ("body", None), ("body", "fine"), ("body", 200, 7), (object(), 200),
        7, True, object(), {1, 2}, range(3), {"body": ("a",)}, {"body": object()},
        {"statusCode": 199}, {"statusCode": 100}, {"statusCode": 600}, {"statusCode": -1}, {"statusCode": True},
        {"statusCode": "ok"}, {"statusCode": None}, {"statusCode": 200.0}, {"statusCode": "²00"},
        {"headers": "X-A: 1"}, {"headers": 3}, {"headers": ["X-A"]}, {"headers": {1: "a"}},
        {"headers": {"X-A": None}}, {"headers": {"X-A": b"1"}}, {"headers": {"X-A": {"b": 1}}},
        {"headers": {"X-A": "1\r\nX-B: 2"}}, {"headers": {"X-A": "1\n"}}, {"headers": {"X-A": "\0"}},
        {"headers": {"X-A\r\n": "1"}}, {"headers": {"X A": "1"}}, {"headers": {"": "1"}}, {"headers": {"X-é": "1"}},
        {"headers": {"X-A": "€"}}, {"headers": {"X-A": "\n" + "a" * 500}}, "\ud800",
        {"a": object()}, {"a": float("nan")}, [float("inf")], {("a", 1): 2},
    ],
)  # fmt: skip
def test_an_invalid_result_is_refused_with_a_reason(result: object) -> None:
    with pytest.raises(InvalidResponse, match="the function returned"):
        respond(result)


def test_a_structure_that_contains_itself_is_invalid() -> None:
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(InvalidResponse):
        respond(circle)


def test_json_supports_dates_uuids_and_decimals() -> None:
    key = uuid.UUID(int=1)
    body = respond([datetime.date(2026, 1, 2), datetime.datetime(2026, 1, 2, 3), key, decimal.Decimal("1.10")]).body
    dates = b'"Fri, 02 Jan 2026 00:00:00 GMT","Fri, 02 Jan 2026 03:00:00 GMT"'
    assert body == b"[" + dates + b',"00000000-0000-0000-0000-000000000001","1.10"]\n'


@dataclass
class Point:
    x: int


class Markup:
    def __html__(self) -> str:
        return "<b>"


def test_json_supports_dataclasses_markup_and_time_zones_like_flask() -> None:
    zone = datetime.timezone(datetime.timedelta(hours=2))
    assert respond([Point(1), Markup(), datetime.datetime(2026, 1, 2, 3, tzinfo=zone)]).body == (
        b'[{"x":1},"<b>","Fri, 02 Jan 2026 01:00:00 GMT"]\n'
    )


def test_a_werkzeug_response_is_sent_unchanged() -> None:
    wrappers = pytest.importorskip("werkzeug.wrappers")
    response = wrappers.Response("made", 418, headers=[("X-A", "1"), ("X-A", "2")], mimetype="text/x")
    lines = b"X-A: 1\r\nX-A: 2\r\nContent-Type: text/x; charset=utf-8\r\n"
    assert respond(response) == Response(418, lines, b"made")
    with pytest.raises(InvalidResponse, match="a value of type Response"):
        respond({"body": response})


def test_a_streamed_werkzeug_response_is_streamed() -> None:
    wrappers = pytest.importorskip("werkzeug.wrappers")
    found = respond(wrappers.Response(iter(["a", "b"]), 200))
    assert isinstance(found.body, Iterator)
    assert list(found.body) == [b"a", b"b"]


def test_a_classic_result_without_a_text_form_is_invalid() -> None:
    with pytest.raises(InvalidResponse, match="has no text form"):
        respond_classic(object())


@given(anything)
def test_any_result_is_a_valid_response_or_refused(result: Any) -> None:
    try:
        response = respond(result)
    except InvalidResponse:
        return
    assert 200 <= response.status <= 599
    assert isinstance(response.body, bytes)
    assert b"".join(LINE.findall(response.headers)) == response.headers
    assert b"content-length:" not in response.headers.lower()


@pytest.mark.slow
@given(st.dictionaries(st.text(), json_values) | st.lists(json_values))
def test_json_results_round_trip(result: Any) -> None:
    try:
        response = respond_classic(result)
    except InvalidResponse as error:
        assert "surrogates" in error.message
        return
    assert isinstance(response.body, bytes)
    assert json.loads(response.body) == result


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (None, Response(200, b"", b"")),
        ("é", Response(200, TEXT, b"\xc3\xa9")),
        (b"\xff", Response(200, OCTETS, b"\xff")),
        ({"statusCode": 404}, Response(200, JSON, b'{"statusCode":404}\n')),
        ([1], Response(200, JSON, b"[1]\n")),
        (1.5, Response(200, TEXT, b"1.5")),
        (("a", 1), Response(200, TEXT, b"('a', 1)")),
    ],
)
def test_a_classic_result_becomes_a_response(result: object, expected: Response) -> None:
    assert respond_classic(result) == expected


def test_iterators_are_kept_for_streaming() -> None:
    numbers = iter(["a"])
    assert respond(numbers) == Response(200, OCTETS, numbers)
    stream = pieces()
    assert respond({"statusCode": 201, "body": stream}) == Response(201, OCTETS, stream)


@pytest.mark.parametrize(("chunk", "data"), [("é", b"\xc3\xa9"), (b"a", b"a"), (bytearray(b"b"), b"b"), ("", b"")])
def test_a_chunk_of_a_stream_is_text_or_bytes(chunk: object, data: bytes) -> None:
    assert encode_chunk(chunk) == data


@pytest.mark.parametrize("chunk", [1, None, {"a": 1}, ["a"], "\ud800"])
def test_a_chunk_of_another_type_is_invalid(chunk: object) -> None:
    with pytest.raises(InvalidResponse):
        encode_chunk(chunk)


def test_a_head_has_status_headers_framing_and_duration() -> None:
    head = encode_head(refusal(504, "late"), 5, b"Connection: close\r\n", 0.25)
    lines = head.split(b"\r\n")
    assert lines[0] == b"HTTP/1.1 504 Gateway Timeout"
    assert lines[1:5] == [
        b"Content-Type: text/plain; charset=utf-8",
        b"X-OpenFaaS-Internal: of-watchdog",
        b"Content-Length: 5",
        b"Connection: close",
    ]
    assert lines[5].startswith(b"Date: ")
    assert lines[6:] == [b"X-Duration-Seconds: 0.250000", b"", b""]


def test_a_status_without_a_reason_phrase_has_an_empty_one() -> None:
    assert encode_head(Response(599, b"", b""), 0, b"", 0).startswith(b"HTTP/1.1 599 \r\n")


@pytest.mark.parametrize("status", [204, 304])
def test_statuses_without_a_body_have_no_length(status: int) -> None:
    assert b"Content-Length" not in encode_head(Response(status, b"", b""), 0, b"", 0)


@given(st.binary(min_size=1))
def test_a_framed_chunk_begins_with_its_size(data: bytes) -> None:
    size, _, rest = encode_framed(data).partition(b"\r\n")
    assert int(size, 16) == len(data)
    assert rest == data + b"\r\n"
