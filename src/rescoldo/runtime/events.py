"""The arguments of a handler: the event and its context, made lazily from the parsed request."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit


class Request:
    """One parsed request. Mutable, because the receiver fills it while bytes arrive."""

    __slots__ = ("body", "call_id", "headers", "http10", "keep_alive", "method", "target", "timeout")

    def __init__(self) -> None:
        self.method = ""
        self.target = b""
        self.headers: list[tuple[bytes, bytes]] = []  # names in lower case
        self.body = b""
        self.call_id = ""  # X-Call-Id
        self.timeout = b""  # X-Timeout, unparsed
        self.keep_alive = True
        self.http10 = False


class Headers(Mapping[str, str]):
    """Request headers: lookup ignores case; iteration yields `Content-Type`, as in python3-http.

    A repeated header is one value joined with ", " (Cookie: "; "); `getlist` keeps the values apart. `get` and
    `getlist` accept a type, as Flask's headers do.
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

    def get(self, name: str, default: Any = None, type: Callable[[str], Any] | None = None) -> Any:
        """Return the value, converted by `type`; return `default` if the header is missing or `type` raises ValueError
        or TypeError."""
        return _typed(self[name], default, type) if name in self else default

    def getlist(self, name: str, type: Callable[[str], Any] | None = None) -> list[Any]:
        """Return all values of `name`, in order; with `type`, only the convertible ones, converted."""
        return _all_typed(self._values.get(name.title(), ()), type)

    get_all = getlist

    def to_dict(self, flat: bool = True) -> dict[str, Any]:
        """Return a plain dict; with `flat` False its values are lists."""
        return dict(self) if flat else {name: list(values) for name, values in self._values.items()}


class Query(dict[str, str]):
    """The query string, with the interface of Flask's `request.args`: the first value of each key; `getlist` returns
    all."""

    __slots__ = ("_lists",)

    def __init__(self, text: str) -> None:
        self._lists: dict[str, list[str]] = {}
        for key, value in parse_qsl(text, keep_blank_values=True, errors="replace"):
            self._lists.setdefault(key, []).append(value)
        super().__init__((key, values[0]) for key, values in self._lists.items())

    def get(self, key: str, default: Any = None, type: Callable[[str], Any] | None = None) -> Any:
        """Return the first value, converted by `type`; return `default` if the key is missing or `type` raises
        ValueError or TypeError."""
        return _typed(self[key], default, type) if key in self else default

    def getlist(self, key: str, type: Callable[[str], Any] | None = None) -> list[Any]:
        """Return all values of `key`, in order; with `type`, only the convertible ones, converted."""
        return _all_typed(self._lists.get(key, ()), type)

    def to_dict(self, flat: bool = True) -> dict[str, Any]:
        """Return a plain dict of first values; with `flat` False, of lists of all values."""
        return dict(self) if flat else dict(self.lists())

    def lists(self) -> Iterator[tuple[str, list[str]]]:
        """Return each key with all of its values."""
        return ((key, list(values)) for key, values in self._lists.items())

    def listvalues(self) -> Iterator[list[str]]:
        """Return the list of values of each key."""
        return (values for _, values in self.lists())

    def items(self, multi: bool = False) -> Any:
        """Return each key with its first value; with `multi`, each value sent."""
        if not multi:
            return super().items()
        return ((key, value) for key, values in self._lists.items() for value in values)


def _typed(value: str, default: Any, type: Callable[[str], Any] | None) -> Any:
    if type is None:
        return value
    try:
        return type(value)
    except (ValueError, TypeError):
        return default


def _all_typed(values: Iterable[str], type: Callable[[str], Any] | None) -> list[Any]:
    found = [_typed(value, _NOTHING, type) for value in values]
    return [value for value in found if value is not _NOTHING]


class _Open:
    """Base of objects that accept attributes of any name beside their slots."""

    __slots__ = ("__dict__",)


_NOTHING = object()
_added = _Open.__dict__["__dict__"].__get__  # attributes that the handler added


class Event(_Open):
    """The request as python3-http's `handle(event, context)` sees it.

    `headers`, `query` and `path` are made at their first use, because most handlers read only one of them. `raw_path`
    is the path as sent, including its percent-encoding.
    """

    __slots__ = ("_request", "body", "headers", "method", "path", "query", "raw_path")

    body: bytes
    headers: Headers
    method: str
    path: str  # percent-decoded
    query: Query
    raw_path: str

    def __init__(self, request: Request) -> None:
        self._request = request
        self.body = request.body
        self.method = request.method

    def __getattr__(self, name: str) -> Any:
        if name == "headers":
            self.headers = Headers(self._request.headers)
        elif name in ("path", "query", "raw_path"):
            self._split()
        else:
            raise AttributeError(f"an event has no {name!r}: it has body, headers, method, path, query and raw_path")
        return object.__getattribute__(self, name)

    def _split(self) -> None:
        path, query = split_target(self._request.target)
        made = {"path": unquote(path, errors="replace"), "raw_path": path, "query": Query(query)}
        for name, value in made.items():
            try:
                object.__getattribute__(self, name)
            except AttributeError:  # else the handler has set it: keep its value
                setattr(self, name, value)

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
        """Return the result of vars(): python3-http's five attributes, and those that the handler added."""
        shown = ("body", "headers", "method", "query", "path")
        return {**{name: getattr(self, name) for name in shown}, **_added(self)}


class Context(_Open):
    """The context argument of python3-http's handlers; `call_id` is our addition."""

    __slots__ = ("call_id",)

    def __init__(self, call_id: str) -> None:
        self.call_id = call_id  # the request's X-Call-Id; empty if it has none

    @property
    def hostname(self) -> str:
        """$HOSTNAME, else the machine's name."""
        return os.environ.get("HOSTNAME") or socket.gethostname()

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
        """Return the result of vars()."""
        return {"hostname": self.hostname, "call_id": self.call_id, **_added(self)}


def split_target(target: bytes) -> tuple[str, str]:
    """Return (path, query) of a request target, which may be a whole URL. Raises ValueError."""
    text = target.decode("utf-8", "replace")
    if not text.startswith(("/", "*")):
        parts = urlsplit(text)
        return parts.path or "/", parts.query
    path, _, query = text.partition("?")
    return path, query
