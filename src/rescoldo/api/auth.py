"""HTTP basic authentication in front of every route but the open ones."""

from __future__ import annotations

import base64
import binascii
import hmac

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from rescoldo.api.credentials import Credentials
from rescoldo.model.access import OPEN_PATHS, OPEN_PREFIXES, REALM, UNAUTHORIZED


class BasicAuth:
    """Answers 401 before it reads the request's body, unless the path is open or the credentials are right."""

    def __init__(self, app: ASGIApp, credentials: Credentials) -> None:
        self._app = app
        self._expected = f"{credentials.user}:{credentials.password}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or is_open(sent_path(scope)) or self._is_known(Headers(scope=scope)):
            await self._app(scope, receive, send)
            return
        response = PlainTextResponse(
            UNAUTHORIZED,
            401,
            {"WWW-Authenticate": f'Basic realm="{REALM}"'},
        )
        await response(scope, receive, send)

    def _is_known(self, headers: Headers) -> bool:
        scheme, _, value = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "basic":
            return False
        try:
            given = base64.b64decode(value.strip(), validate=True)
        except (binascii.Error, ValueError):
            return False
        return hmac.compare_digest(given, self._expected)


def sent_path(scope: Scope) -> str:
    """The request's path before percent-decoding, without its query."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    return raw.partition(b"?")[0].decode("latin-1")


def is_open(path: str) -> bool:
    """Whether `path` is served without credentials. Unknown paths are not open."""
    return path in OPEN_PATHS or path.startswith(OPEN_PREFIXES)
