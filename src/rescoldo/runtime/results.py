"""Turns a handler's result into one response.

Pure and callable on any thread: JSON of a large result is made where the handler ran, not on the loop. The table for
style "http" (https://github.com/openfaas/python-flask-template, whose python3-http stands on Flask; the default types
are Flask's, except that bytes are octet-stream):

    None                               200, empty
    str                                200, text/html; charset=utf-8
    bytes, bytearray, memoryview       200, application/octet-stream
    dict with statusCode/body/headers  as it says; a body may be any row of this table, or a number
    other dict, list                   200, application/json
    iterator, async iterator           200, application/octet-stream, streamed
    (body, status), (body, headers)    as they say; a body may be any row above
    (body, status, headers)
    a response of Flask or werkzeug    as it says
    anything else                      InvalidResponse: the client gets 500, the log gets the reason

JSON is written as Flask writes it: sorted keys, ASCII, a final newline, dates as in HTTP headers.

Style "classic" (`handle(req) -> str`) treats None (replaced by printed output, see classic.py), bytes and iterators
the same way; str is text/plain; every dict or list is JSON; any other object whose class defines a text form becomes
its str(), which is what the template's print() wrote.
"""

from __future__ import annotations

import datetime
import decimal
import json
import re
import uuid
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, is_dataclass
from email.utils import format_datetime
from functools import lru_cache
from typing import Any

from rescoldo.model.errors import RescoldoError

Body = bytes | Iterator[Any] | AsyncIterator[Any]


class InvalidResponse(RescoldoError):
    """The function returned something that is not an HTTP response."""


@dataclass(frozen=True, slots=True)
class Response:
    """A response without its framing."""

    status: int
    headers: bytes  # encoded lines, each ended by CRLF
    body: Body


# HAProxy accepts 101 header lines and 15 KiB of a head, including its own and the server's lines; beyond that the
# client gets a bare 502.
MAX_LINES, MAX_FIELDS = 90, 14 * 2**10

HTML = b"Content-Type: text/html; charset=utf-8\r\n"
TEXT = b"Content-Type: text/plain; charset=utf-8\r\n"
OCTETS = b"Content-Type: application/octet-stream\r\n"
JSON = b"Content-Type: application/json\r\n"
PLATFORM = TEXT + b"X-OpenFaaS-Internal: of-watchdog\r\n"

_RESPONSE_KEYS = frozenset(("statusCode", "body", "headers"))
# Hop-by-hop headers (RFC 9110, section 7.6.1, and the others that Go's proxies drop), and headers that the server sets
# itself.
_DROPPED = {
    "connection", "proxy-connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te",
    "trailer", "transfer-encoding", "upgrade", "content-length", "date", "x-duration-seconds",
}  # fmt: skip
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def refusal(status: int, text: str) -> Response:
    """Return a short response of the platform's own, marked so that a queue may retry."""
    return Response(status, PLATFORM, text.encode(errors="backslashreplace") + b"\n")


def respond(result: object) -> Response:
    """Return the response of a style-http handler that returned `result`. Raises InvalidResponse."""
    if isinstance(result, dict) and not _RESPONSE_KEYS.isdisjoint(result):
        return _described(result)
    if isinstance(result, tuple):
        return _described(_parts(result))
    if _is_werkzeug(result):
        return _described(_of_werkzeug(result))
    kind, body = _encode(result, HTML)
    return Response(200, kind, body)


def respond_classic(result: object) -> Response:
    """Return the response of a classic handler that returned `result`; a Response passes unchanged. Raises
    InvalidResponse."""
    if isinstance(result, Response):
        return result
    if not isinstance(result, str | bytes | bytearray | memoryview | dict | list | Iterator | AsyncIterator | None):
        if type(result).__str__ is object.__str__ and type(result).__repr__ is object.__repr__:
            raise InvalidResponse(f"the function returned {_a(result)}, which has no text form: return str or bytes")
        result = str(result)
    kind, body = _encode(result, TEXT)
    return Response(200, kind, body)


def encode_chunk(chunk: object) -> bytes:
    """Encode one piece of a streamed body. Raises InvalidResponse."""
    if isinstance(chunk, str):
        return _utf8(chunk)
    if isinstance(chunk, bytes | bytearray | memoryview):
        return bytes(chunk)
    raise InvalidResponse(f"a streamed body yielded {_a(chunk)}: yield str or bytes")


def _described(result: dict[Any, Any]) -> Response:
    body = result.get("body")
    if isinstance(body, int | float):
        body = str(body)
    kind, encoded = _encode(body, HTML)
    status = _status(result.get("statusCode", 200))
    headers = result.get("headers")
    if headers:
        lines, typed = _lines(headers)
        kind = lines if typed else lines + kind
    if status in (204, 205, 304):  # these never have content (RFC 9110, 15.3.5, 15.3.6 and 15.4.5)
        encoded = b""
    return Response(status, kind, encoded)


def _parts(result: tuple[Any, ...]) -> dict[str, Any]:
    """Read Flask's tuples: (body, status), (body, headers), (body, status, headers)."""
    match result:
        case (body, status, headers):
            return {"body": body, "statusCode": status, "headers": headers}
        case (body, Mapping() | list() | tuple() as headers):
            return {"body": body, "headers": headers}
        case (body, status):
            return {"body": body, "statusCode": status}
    raise InvalidResponse(
        f"the function returned a tuple of {len(result)} values: return (body, status), (body, headers) or "
        "(body, status, headers)"
    )


def _is_werkzeug(result: object) -> bool:
    """Whether `result` is a response of werkzeug, on which Flask is built; neither is imported here."""
    kind = type(result)
    if not (hasattr(kind, "get_app_iter") and hasattr(kind, "iter_encoded")):
        return False
    return hasattr(kind, "get_data") and hasattr(kind, "status_code")


def _of_werkzeug(result: Any) -> dict[str, Any]:
    body = result.iter_encoded() if result.is_streamed else result.get_data()
    return {"body": body, "statusCode": result.status_code, "headers": list(result.headers.items())}


def _encode(result: object, text_type: bytes) -> tuple[bytes, Body]:
    match result:
        case None:
            return b"", b""
        case str():
            return text_type, _utf8(result)
        case bytes():
            return OCTETS, result
        case bytearray() | memoryview():
            return OCTETS, bytes(result)
        case dict() | list():
            return JSON, _json(result)
        case Iterator() | AsyncIterator():
            return OCTETS, result
    raise InvalidResponse(
        f"the function returned {_a(result)}: return None, str, bytes, a dict, a list, a generator, "
        '(body, status, headers) or {"statusCode": ..., "headers": ..., "body": ...}'
    )


def _status(value: object) -> int:
    if isinstance(value, str):
        value = value.partition(" ")[0]  # "404 NOT FOUND"
    number = int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value
    if isinstance(number, bool) or not isinstance(number, int) or not 200 <= number <= 599:
        raise InvalidResponse(f"the function returned statusCode {value!r:.80}: use a number from 200 to 599")
    return int(number)


def _lines(headers: object) -> tuple[bytes, bool]:
    """Encode a handler's headers; return them and whether they include a Content-Type."""
    if isinstance(headers, Mapping):
        headers = headers.items()
    if not isinstance(headers, Iterable) or isinstance(headers, str | bytes):
        raise InvalidResponse(f"the function returned headers that are {_a(headers)}: use a dict")
    lines: list[bytes] = []
    typed = False
    for pair in headers:
        if not isinstance(pair, tuple | list) or len(pair) != 2 or not isinstance(pair[0], str):
            raise InvalidResponse(f"the function returned a header that is not a (name, value) pair: {pair!r:.80}")
        name, value = pair
        key = name.lower()
        if key in _DROPPED:
            continue
        typed = typed or key == "content-type"
        values = value if isinstance(value, list | tuple) else (value,)
        lines.extend(_line(name, item) for item in values)
    encoded = b"".join(lines)
    if len(lines) > MAX_LINES or len(encoded) > MAX_FIELDS:
        raise InvalidResponse(
            f"the function returned {len(lines)} headers of {len(encoded)} bytes: use at most {MAX_LINES}, of "
            f"{MAX_FIELDS} bytes together, the edge's limits"
        )
    return encoded, typed


def _line(name: str, value: object) -> bytes:
    if isinstance(value, int | float):
        value = str(value)
    if not isinstance(value, str):
        raise InvalidResponse(f"the function returned header {name!r:.80} with {_a(value)}: use str")
    # Long values rarely repeat; they would only fill the cache.
    return _short_line(name, value) if len(name) + len(value) < 128 else _checked_line(name, value)


def _checked_line(name: str, value: str) -> bytes:
    if not _TOKEN.fullmatch(name):
        raise InvalidResponse(f"the function returned a header whose name is not valid: {name!r:.80}")
    value = value.strip(" \t")
    if found := _CONTROL.search(value):
        raise InvalidResponse(f"the function returned header {name!r:.80} with a {found[0]!r} in its value")
    try:
        return f"{name}: {value}\r\n".encode("latin-1")
    except UnicodeEncodeError as error:
        raise InvalidResponse(f"the function returned header {name!r:.80} with a value outside Latin-1") from error


_short_line = lru_cache(maxsize=256)(_checked_line)


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InvalidResponse(f"the function returned text that is not valid Unicode: {error}") from error


def _plain(value: object) -> object:
    """Encode the few types beyond JSON's own that Flask supports."""
    if isinstance(value, datetime.date):
        return _http_date(value)
    if isinstance(value, datetime.time):
        return value.isoformat()
    if isinstance(value, uuid.UUID | decimal.Decimal):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if hasattr(value, "__html__"):
        return str(value.__html__())
    raise TypeError(f"{_a(value)} cannot be written as JSON")


def _http_date(value: datetime.date) -> str:
    """Format an HTTP date: midnight for a date without a time, UTC for one without a zone, as werkzeug does."""
    if not isinstance(value, datetime.datetime):
        value = datetime.datetime(value.year, value.month, value.day, tzinfo=datetime.UTC)
    elif value.tzinfo is None:
        value = value.replace(tzinfo=datetime.UTC)
    return format_datetime(value.astimezone(datetime.UTC), usegmt=True)


_in_order = json.JSONEncoder(separators=(",", ":"), sort_keys=True, allow_nan=False, default=_plain).encode
_as_they_are = json.JSONEncoder(separators=(",", ":"), allow_nan=False, default=_plain).encode


def _json(value: object) -> bytes:
    try:
        try:
            text = _in_order(value)
        except TypeError:  # keys of mixed types cannot be sorted
            text = _as_they_are(value)
        return text.encode("ascii") + b"\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidResponse(f"the function returned {_a(value)} that is not JSON: {error}") from error


def _a(value: object) -> str:
    return f"a value of type {type(value).__name__}"
