"""The edge's own pages, byte for byte: HAProxy sends them unchanged."""

from __future__ import annotations

from http import HTTPStatus

from rescoldo.edge.pages import CONTROL_ERRORS, ERRORS, error_pages, slot_error


def test_a_page_is_a_complete_response_with_reason_phrase_and_length() -> None:
    body = "the controller did not take the request in time; try again\n"
    assert error_pages()["control-503.http"].decode() == (
        f"HTTP/1.1 503 Service Unavailable\r\ncontent-length: {len(body)}\r\n"
        "content-type: text/plain; charset=utf-8\r\nx-openfaas-internal: proxy\r\ncache-control: no-cache\r\n"
        f"retry-after: 1\r\n\r\n{body}"
    )


def test_each_status_has_a_page_with_its_own_text() -> None:
    pages = error_pages()
    assert pages.keys() == {*(f"{one}.http" for one in ERRORS), *(f"control-{one}.http" for one in CONTROL_ERRORS)}
    for name, page in pages.items():
        prefix, _, status = name.removesuffix(".http").rpartition("-")
        head, _, body = page.decode().partition("\r\n\r\n")
        assert head.startswith(f"HTTP/1.1 {status} {HTTPStatus(int(status)).phrase}\r\n")
        assert body == f"{(CONTROL_ERRORS if prefix else ERRORS)[int(status)]}\n"
        assert ("retry-after: 1" in head) == (status == "503")


def test_a_slots_rule_matches_the_page_of_its_status() -> None:
    rule = slot_error(503)
    assert rule.startswith(
        '  http-error status 503 content-type "text/plain; charset=utf-8" hdr x-openfaas-internal proxy '
        "hdr cache-control no-cache hdr retry-after 1 hdr x-call-id "
    )
    assert rule.endswith(f'{ERRORS[503]}\\n"')
