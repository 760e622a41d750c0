"""Finds the function that a request to the API is about, before its route runs: in a cluster, another process may
answer, or must be asked first."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, unquote

from starlette.types import Message, Receive, Scope

from rescoldo.api.auth import sent_path
from rescoldo.api.bodies import MAX_BODY
from rescoldo.api.references import reference
from rescoldo.model.errors import InvalidInput
from rescoldo.model.names import FunctionId

_ONE = re.compile(r"/system/(?:function|scale-function)/([^/]+)(?:/.*)?")
_DEPLOYMENTS = "/system/functions"
_LOGS = "/system/logs"


def is_scoped(scope: Scope) -> bool:
    """Whether a request is about one function, by its method and path."""
    path = sent_path(scope)
    return bool(_ONE.fullmatch(path)) or path == _LOGS or (path == _DEPLOYMENTS and scope["method"] != "GET")


def function_of(scope: Scope, body: bytes) -> FunctionId | None:
    """The function of a scoped request; None where the route itself will refuse the request."""
    path, query = sent_path(scope), parse_qs(scope["query_string"].decode("latin-1"))
    found = _object(body)
    try:
        namespaces = [*query.get("namespace", ()), *_texts(found, "namespace")]
        if match := _ONE.fullmatch(path):
            return reference(unquote(match[1]), *namespaces)
        names = query.get("name", ()) if path == _LOGS else _texts(found, "service", "functionName", "function_name")
        return reference(names[0], *namespaces) if names else None
    except InvalidInput:
        return None


def _object(body: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(body) if body else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _texts(found: Mapping[str, Any], *fields: str) -> list[str]:
    return [value for field in fields if isinstance(value := found.get(field), str) and value]


async def read_ahead(receive: Receive) -> tuple[bytes, Receive]:
    """Read a request's body, or the first MAX_BODY bytes of it and some more; return it with a `receive` that begins
    again."""
    messages: list[Message] = []
    size = 0
    while True:
        message = await receive()
        messages.append(message)
        size += len(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body") or size > MAX_BODY:
            break
    waiting = iter(messages)

    async def again() -> Message:
        for message in waiting:
            return message
        return await receive()

    return b"".join(message.get("body", b"") for message in messages), again
