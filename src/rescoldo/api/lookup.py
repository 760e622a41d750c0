"""Lets a worker know the function that a request is about, before its route runs: workers know what was called."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from rescoldo.api.scoped import function_of, is_scoped, read_ahead
from rescoldo.model.errors import RescoldoError
from rescoldo.model.names import FunctionId


class LookUp:
    """Looks functions up. A failure is no answer: the route then says what it knows."""

    def __init__(self, app: ASGIApp, look_up: Callable[[FunctionId], Awaitable[None]]) -> None:
        self._app = app
        self._look_up = look_up

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and is_scoped(scope):
            body, receive = await read_ahead(receive)
            if (function := function_of(scope, body)) is not None:
                with contextlib.suppress(RescoldoError):
                    await self._look_up(function)
        await self._app(scope, receive, send)
