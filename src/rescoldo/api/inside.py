"""Closes the paths below /-/, which are open without a login because an edge stands before them.

A cluster's control has none: every pod may reach it.
"""

from __future__ import annotations

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from rescoldo.api.auth import sent_path


class NoInside:
    """Answers 404 for them. Metrics are at /metrics, with the login."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (sent_path(scope) + "/").startswith("/-/"):
            await PlainTextResponse("page not found\n", 404)(scope, receive, send)
        else:
            await self._app(scope, receive, send)
