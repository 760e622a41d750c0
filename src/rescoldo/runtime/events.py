"""What a handler is given: the event and its context, made lazily from the parsed request."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit


class Request:
    """One parsed request. Mutable and slotted: it is filled while its bytes arrive."""

    __slots__ = ("body", "call_id", "headers", "http10", "keep_alive", "method", "target", "timeout")

    def __init__(self) -> None:
        self.method = ""
        self.target = b""
        self.headers: list[tuple[bytes, bytes]] = []  # names in lower case
        self.body = b""
        self.call_id = ""  # X-Call-Id
        self.timeout = b""  # X-Timeout as sent
        self.keep_alive = True
        self.http10 = False


class Headers(Mapping[str, str]):
    """Request headers: names in any case; iteration gives `Content-Type`, as python3-http's do.

    A repeated header is one value joined with ", " (Cookie: "; "); `getlist` keeps them apart.
    """

    __slots__ = ("_values",)

    def __init__(self, pairs: list[tuple[bytes, bytes]]) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in pairs:
            self._values.setdefault(name.decode("latin-1").title(), []).append(value.decode("latin-1"))

    def __getitem__(self, name: str) -> str:
        values = self._values[name.title()]
        return ("; " if name.title() == "Cookie" else ", ").join(values)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.title() in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Headers({dict(self)!r})"

    def getlist(self, name: str) -> list[str]:
        """Every value sent for `name`, in order."""
        return list(self._values.get(name.title(), ()))


class Query(dict[str, str]):
    """The query string: the first value of each key; `getlist` gives all."""

    __slots__ = ("_lists",)

    def __init__(self, text: str) -> None:
        self._lists: dict[str, list[str]] = {}
        for key, value in parse_qsl(text, keep_blank_values=True, errors="replace"):
            self._lists.setdefault(key, []).append(value)
        super().__init__((key, values[0]) for key, values in self._lists.items())

    def getlist(self, key: str) -> list[str]:
        """Every value sent for `key`, in order."""
        return list(self._lists.get(key, ()))


class Event:
    """The request as python3-http's `handle(event, context)` sees it.

    `headers`, `query` and `path` are made at their first use: most handlers read one of them.
    """

    __slots__ = ("_request", "body", "headers", "method", "path", "query")

    body: bytes
    headers: Headers
    method: str
    path: str  # percent-decoded
    query: Query

    def __init__(self, request: Request) -> None:
        self._request = request
        self.body = request.body
        self.method = request.method

    def __getattr__(self, name: str) -> Any:
        if name == "headers":
            self.headers = Headers(self._request.headers)
        elif name in ("path", "query"):
            path, query = split_target(self._request.target)
            self.path = unquote(path, errors="replace")
            self.query = Query(query)
        else:
            raise AttributeError(f"an event has no {name!r}: it has body, headers, method, path and query")
        return object.__getattribute__(self, name)


class Context:
    """What python3-http's handlers get beside the event; `call_id` is ours."""

    __slots__ = ("call_id",)

    def __init__(self, call_id: str) -> None:
        self.call_id = call_id  # the request's X-Call-Id; empty when it has none

    @property
    def hostname(self) -> str:
        """$HOSTNAME, else the machine's name."""
        return os.environ.get("HOSTNAME") or socket.gethostname()


def split_target(target: bytes) -> tuple[str, str]:
    """Return (path, query) of a request target, which may be a whole URL; raise ValueError."""
    text = target.decode("utf-8", "replace")
    if not text.startswith(("/", "*")):
        parts = urlsplit(text)
        return parts.path or "/", parts.query
    path, _, query = text.partition("?")
    return path, query
