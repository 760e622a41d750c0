"""Refuses requests that a web page makes in a browser.

Functions serve pages at the gateway's own origin, where the browser adds the platform's login to every request.

The header `Sec-Fetch-Site` names the relation to the page that made a request, and browsers send `Origin` with every
request that may write (Fetch Standard, "Sec-Fetch-*" and "Origin"); a page can change neither. Command-line tools and
other clients send neither.
"""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from rescoldo.api.auth import is_open, sent_path

READING = frozenset({"GET", "HEAD", "OPTIONS"})
TYPED = "none"  # the user typed the address or chose a bookmark
LINKED = ("cross-site", "navigate")  # a link on another site, whose page cannot read the response


class NoPages:
    """Answers 403 to requests of pages before it looks at login and body, except for open paths."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or is_open(sent_path(scope)) or not is_of_a_page(scope):
            await self._app(scope, receive, send)
            return
        text = "web pages may not call this API; use a command line or a program\n"
        await PlainTextResponse(text, 403)(scope, receive, send)


def is_of_a_page(scope: Scope) -> bool:
    """Whether a page made the request, and the request writes or the page could read the response."""
    headers = Headers(scope=scope)
    if scope["method"] not in READING:
        return "origin" in headers or headers.get("sec-fetch-site", TYPED) != TYPED
    site, mode = headers.get("sec-fetch-site", TYPED), headers.get("sec-fetch-mode", "")
    return site != TYPED and (site, mode) != LINKED
