"""Bounds the bodies of requests, where routes read them as a whole."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class BoundedBodies:
    """Lets a longer body end with 413, if possible before it arrives."""

    def __init__(self, app: ASGIApp, most: int, but: str | None = None) -> None:
        """`most` is in bytes. Routes below the path `but` bound their bodies themselves."""
        self._app = app
        self._most = most
        self._but = but

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._but is not None and scope["type"] == "http" and scope["path"].startswith(f"{self._but}/"):
            await self._app(scope, receive, send)
            return
        arrived = 0

        async def counted() -> Message:
            nonlocal arrived
            message = await receive()
            arrived += len(message.get("body", b""))
            if arrived > self._most:
                raise HTTPException(413)  # FastAPI turns any other error of a body into a 400
            return message

        async def refused() -> Message:
            raise HTTPException(413)

        await self._app(scope, refused if self._says_more(scope) else counted, send)

    def _says_more(self, scope: Scope) -> bool:
        length = Headers(scope=scope).get("content-length", "") if scope["type"] == "http" else ""
        return length.isdigit() and int(length) > self._most
