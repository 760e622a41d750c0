"""Hands a request about one function to the worker that owns the function, in a cluster's control.

The owner answers, and its answer goes back as it is. Where no owner can be reached, control's own routes answer: they
know what is stored, and save what is asked for; the owner takes that over when it is back.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qs

from starlette.datastructures import Headers
from starlette.responses import Response, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rescoldo.api.auth import sent_path
from rescoldo.api.scoped import function_of, is_scoped, read_ahead
from rescoldo.cluster.protocol import Answered, Asked, NoOwner, Owners
from rescoldo.model.names import FunctionId, split_id

MOST_STATUS = 2**20  # bytes of a function's status, which is read as a whole
_SENT = ("content-type", "prefer", "accept")
_RETURNED = ("content-type", "retry-after", "preference-applied", "cache-control", "x-accel-buffering")

log = logging.getLogger(__name__)


class Forwarding:
    """Asks owners first. `settle` is awaited before an answer to a change goes back: then control's own lists show the
    change. `calls` returns the number of a function's calls in the whole cluster. `is_awake`: whether a worker has
    instances of it. `on_unowned` is called with a function that control has changed, as no owner answered."""

    def __init__(
        self, app: ASGIApp, owners: Owners, settle: Callable[[FunctionId], Awaitable[None]],
        calls: Callable[[FunctionId], int], is_awake: Callable[[FunctionId], bool],
        on_unowned: Callable[[FunctionId], None],
    ) -> None:
        self._app = app
        self._owners = owners
        self._settle = settle
        self._calls = calls
        self._is_awake = is_awake
        self._on_unowned = on_unowned

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not is_scoped(scope):
            await self._app(scope, receive, send)
            return
        body, receive = await read_ahead(receive)
        function = function_of(scope, body)
        if function is None:
            await self._app(scope, receive, send)
            return
        if _is_immediate(scope) and not self._is_awake(function):  # there is nothing to check
            await self._app(scope, receive, self._after_owner(function, send))
            return
        asked = _request(function, scope, body)
        try:
            async with self._owners.ask(asked) as answered:
                if answered.status != 404:  # else another may have deployed it a moment ago
                    if asked.method != "GET":
                        await self._settle(function)
                    await self._pass_on(asked, answered, scope, receive, send)
                    return
        except NoOwner as error:
            log.warning("%s", error.message)
            if asked.method not in ("GET", "DELETE"):
                send = self._without_owner(function, send)
        await self._app(scope, receive, send)

    def _without_owner(self, function: FunctionId, send: Send) -> Send:
        """Note a change that control makes itself, before its response is sent."""

        async def note_and_send(message: Message) -> None:
            if _is_success(message):
                self._on_unowned(function)
            await send(message)

        return note_and_send

    def _after_owner(self, function: FunctionId, send: Send) -> Send:
        """Send control's own response once the owner knows the function: a call may follow at once."""

        async def send_later(message: Message) -> None:
            if _is_success(message):
                name, namespace = split_id(function)
                asked = Asked(function, "GET", f"/system/function/{name}?namespace={namespace}", {}, b"")
                try:
                    async with self._owners.ask(asked):
                        pass
                except NoOwner:
                    self._on_unowned(function)
            await send(message)

        return send_later

    async def _pass_on(
        self, asked: Asked, answered: Answered, scope: Scope, receive: Receive, send: Send
    ) -> None:
        headers = {
            name: value
            for name, value in answered.headers.items()
            if name in _RETURNED or name.startswith("x-rescoldo-")
        }
        response: Response
        if asked.method == "GET" and answered.status == 200 and _is_status(asked.target):
            response = Response(await self._status(asked.function, answered), 200, headers)
        else:
            response = StreamingResponse(answered.chunks, answered.status, headers)
        await response(scope, receive, send)

    async def _status(self, function: FunctionId, answered: Answered) -> bytes:
        """An owner's report on a function, with the calls that all workers have counted."""
        text = bytearray()
        async for chunk in answered.chunks:
            text += chunk
            if len(text) > MOST_STATUS:
                raise NoOwner(f"the status of {function} is larger than {MOST_STATUS} bytes")
        try:
            found = json.loads(text)
            found["invocationCount"] = max(int(found.get("invocationCount", 0)), self._calls(function))
        except (ValueError, TypeError, AttributeError):
            return bytes(text)
        return json.dumps(found).encode()


def _request(function: FunctionId, scope: Scope, body: bytes) -> Asked:
    query = scope["query_string"].decode("latin-1")
    headers = Headers(scope=scope)
    return Asked(
        function,
        scope["method"],
        sent_path(scope) + (f"?{query}" if query else ""),
        {name: headers[name] for name in _SENT if name in headers},
        body,
    )


def _is_success(message: Message) -> bool:
    return bool(message["type"] == "http.response.start" and message["status"] < 300)


def _is_status(target: str) -> bool:
    path = target.partition("?")[0]
    return path.startswith("/system/function/") and path.count("/") == 3


def _is_immediate(scope: Scope) -> bool:
    """Whether a deployment is to be saved without a check: control can do that as well."""
    query = parse_qs(scope["query_string"].decode("latin-1"))
    return scope["method"] in ("POST", "PUT") and query.get("rollout") == ["immediate"]
