"""Encodes the bytes before a response's body: status line, headers, framing."""

from __future__ import annotations

import time
from functools import lru_cache
from http import HTTPStatus

from rescoldo.runtime.results import Response

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"
CLOSE = b"Connection: close\r\n"
KEEP_ALIVE = b"Connection: keep-alive\r\n"  # HTTP/1.0 clients close without it
CHUNKED = b"Transfer-Encoding: chunked\r\n"

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_STATUS_LINES = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n".encode() for s in HTTPStatus}


def encode_head(response: Response, length: int | None, connection: bytes, seconds: float) -> bytes:
    """Return the head of `response` with its empty line.

    `length` is the body's size in bytes, None if unknown. `connection` holds further header lines. `seconds` is the
    time that the handler took.
    """
    status = response.status
    line = _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status
    # A Content-Length is forbidden with 204 and optional with 304 (RFC 9110, 8.6).
    size = b"" if length is None or status in (204, 304) else b"Content-Length: %d\r\n" % length
    return b"%b%b%b%b%bX-Duration-Seconds: %f\r\n\r\n" % (
        line,
        response.headers,
        size,
        connection,
        _date(int(time.time())),
        seconds,
    )


def encode_framed(data: bytes) -> bytes:
    """Return non-empty `data` as one chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


@lru_cache(maxsize=1)
def _date(second: int) -> bytes:
    t = time.gmtime(second)
    clock = f"{t.tm_hour:02}:{t.tm_min:02}:{t.tm_sec:02}"
    day = f"{_DAYS[t.tm_wday]}, {t.tm_mday:02} {_MONTHS[t.tm_mon - 1]} {t.tm_year}"
    return f"Date: {day} {clock} GMT\r\n".encode()
