"""The edge's own responses, in place of an instance or of the controller."""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus

TEXT = "text/plain; charset=utf-8"
# HAProxy closes the connection after these; unlike its own pages, the texts say what to do or where to look.
ERRORS = {
    400: "the request is not valid HTTP, its headers exceed 16 KiB, or the client did not wait for the response",
    408: "the request did not arrive in time",
    500: "the edge failed",
    502: "the function's instance ended before its response was complete, or sent an invalid response; look for this "
    "response's X-Call-Id in the function's log or `rescoldo describe`",
    503: "no instance could take the request in time",
    504: "the function did not answer in time",
}
# the statuses that a slot answers in place of its instance
SLOT_ERRORS = (502, 503, 504)
# A side effect of each of these responses: it records the call in the third field of the access log, as accesslog.py
# reads it, and adds nothing to the text (`bytes(0,0)`). The client may have chosen the id, so it is cut and encoded.
FAILED = (
    "%[date(0,us),set-var(txn.at),bytes(0,0)]%[srv_name,set-var(txn.server),bytes(0,0)]"
    "%[var(txn.id),set-var(txn.name),bytes(0,0)]%[var(txn.given),bytes(0,100),url_enc,set-var(txn.name),bytes(0,0)]"
    "%[var(txn.cold,-),concat(:failed:,txn.at,:),concat(,txn.server,:),concat(,txn.name),set-var(txn.cold),bytes(0,0)]"
)
# the responses of the platform's own routes, in place of the controller
CONTROL_ERRORS = {
    502: "the controller ended before its response was complete; try again",
    503: "the controller did not take the request in time; try again",
    504: "the controller did not answer in time; check whether the request took effect before you retry",
}


def error_pages() -> dict[str, bytes]:
    """The error files that HAProxy reads, by name."""
    return {
        f"{prefix}{status}.http": error_page(status, text)
        for prefix, pages in (("", ERRORS), ("control-", CONTROL_ERRORS))
        for status, text in pages.items()
    }


def slot_error(status: int) -> str:
    """One of SLOT_ERRORS as a rule of a slot: the same response with the call's id."""
    headers = "".join(f" hdr {key} {value}" for key, value in _error_headers(status))
    told = f'hdr x-call-id "%[var(txn.given)]%[var(txn.id)]" lf-string "{FAILED}{ERRORS[status]}\\n"'
    return f'  http-error status {status} content-type "{TEXT}"{headers} {told}'


def error_page(status: int, text: str) -> bytes:
    """An error file of HAProxy: a whole response."""
    body = f"{text}\n".encode()
    head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-length: {len(body)}\r\n"
    head += f"content-type: {TEXT}\r\n" + "".join(f"{key}: {value}\r\n" for key, value in _error_headers(status))
    return head.encode() + b"\r\n" + body


def _error_headers(status: int) -> Iterator[tuple[str, str]]:
    yield "x-openfaas-internal", "proxy"
    yield "cache-control", "no-cache"
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        yield "retry-after", "1"
