"""Tests handlers with any test runner and without a platform: makes an event and a call.

    from rescoldo.testing import call, event, load

    def test_greets():
        answer = call(load("greet"), event(body="Ada"))
        assert (answer.status, answer.text) == (200, "Hello, Ada!\\n")

Events are the platform's own, and answers are made by the platform's own code. Not included: limits, deadlines, the
sandbox, the edge's headers, concurrent calls.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json as _json
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from rescoldo.runtime import classic
from rescoldo.runtime.events import Context, Event, Headers, Request
from rescoldo.runtime.imports import BareNames, forget_package
from rescoldo.runtime.results import Response, encode_chunk, respond, respond_classic

__all__ = ["Answer", "call", "call_async", "context", "event", "load"]

Pairs = Mapping[str, str] | Iterable[tuple[str, str]]
_PACKAGE = "function"  # the platform imports a handler's folder as this package
_KEPT = "/%:@!$&'()*+,;=~-._"  # characters of a path that need no percent-encoding


@dataclass(frozen=True, slots=True)
class Answer:
    """The response that the client would get; a stream is read to its end."""

    status: int
    headers: Headers  # names in any case; `getlist` for repeated headers
    body: bytes
    chunks: tuple[bytes, ...] = ()  # of a stream, as the handler yielded them

    @property
    def text(self) -> str:
        """The body as UTF-8 text."""
        return self.body.decode()

    def json(self) -> Any:
        """The body parsed as JSON."""
        return _json.loads(self.body)


def event(
    path: str = "/",
    *,
    method: str = "POST",
    body: bytes | str = b"",
    json: Any = None,
    headers: Pairs = (),
    query: Pairs = (),
) -> Event:
    """Make a request as `handle(event, context)` gets it.

    `json` becomes the body, with its Content-Type. `path` may contain a query of its own. Raises TypeError for a body
    and json together.
    """
    request = Request()
    pairs = [(name.lower(), value) for name, value in _pairs(headers)]
    if json is not None:
        if body:
            raise TypeError("give body or json, not both")
        body = _json.dumps(json)
        if all(name != "content-type" for name, _ in pairs):
            pairs.append(("content-type", "application/json"))
    target, mark, own = path.partition("?")
    asked = "&".join(part for part in (own, urlencode(_pairs(query))) if part)
    request.method = method
    request.target = f"{quote(target or '/', safe=_KEPT)}{'?' if asked or mark else ''}{asked}".encode()
    request.headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs]
    request.body = body.encode() if isinstance(body, str) else body
    request.call_id = dict(pairs).get("x-call-id", "")
    return Event(request)


def context(call_id: str = "") -> Context:
    """Make the context that `handle(event, context)` gets beside the event."""
    return Context(call_id)


def load(folder: str | Path) -> Callable[..., Any]:
    """Import `folder`/handler.py anew, as the start of an instance does, and return its `handle`.

    The folder is the package `function`: it works to write `from .other import x`, `import other` or
    `from function.other import x`. Each call of `load` makes new module globals. Raises the import's own errors,
    FileNotFoundError without a handler.py, AttributeError without `handle`.
    """
    place = Path(folder).resolve()
    if not (place / "handler.py").is_file():
        raise FileNotFoundError(f"{place}: it has no handler.py")
    forget_package(_PACKAGE)
    importlib.invalidate_caches()
    initial = place / "__init__.py"
    if initial.is_file():
        spec = importlib.util.spec_from_file_location(_PACKAGE, initial, submodule_search_locations=[str(place)])
    else:
        spec = ModuleSpec(_PACKAGE, None, is_package=True)
        spec.submodule_search_locations = [str(place)]
    assert spec is not None
    package = module_from_spec(spec)
    sys.modules[_PACKAGE] = package
    sys.meta_path.append(BareNames(_PACKAGE, str(place)))
    if spec.loader is not None:
        spec.loader.exec_module(package)
    handle: Callable[..., Any] = importlib.import_module(f"{_PACKAGE}.handler").handle
    return handle


def call(handle: Callable[..., Any], request: Event | None = None) -> Answer:
    """Call a handler, `handle(event, context)` or `handle(req)`, sync, async or streaming, and return its answer.

    `request` is an empty POST by default; its X-Call-Id becomes the context's call_id. Exceptions of the handler
    propagate; a client would get 500. Raises InvalidResponse, with the reason that the function's log would show, if
    the handler returns no valid response. In an async test, where a loop already runs, use `call_async`.
    """
    return asyncio.run(call_async(handle, request))


async def call_async(handle: Callable[..., Any], request: Event | None = None) -> Answer:
    """Do what `call` does, on the running loop."""
    given = event() if request is None else request
    if _is_classic(handle):
        return await _answer(respond_classic(await _called_classic(handle, given)))
    result = handle(given, context(given.headers.get("X-Call-Id", "")))
    return await _answer(respond(await result if inspect.isawaitable(result) else result))


async def _called_classic(handle: Callable[..., Any], given: Event) -> Any:
    """Return what a classic handler returned or printed; for this call it has its own variables and output."""
    before = sys.stdout, os.environ
    classic.share_process()
    try:
        result = classic.caller(handle, on_loop=inspect.iscoroutinefunction(handle))(given._request)
        return await result if inspect.isawaitable(result) else result
    finally:
        sys.stdout, os.environ = before


async def _answer(response: Response) -> Answer:
    lines = [line.partition(b": ") for line in response.headers.split(b"\r\n") if line]
    headers = Headers([(name.lower(), value) for name, _, value in lines])
    if isinstance(response.body, bytes):
        return Answer(response.status, headers, response.body)
    if isinstance(response.body, AsyncIterator):
        chunks = [encode_chunk(chunk) async for chunk in response.body]
    else:
        chunks = [encode_chunk(chunk) for chunk in response.body]
    return Answer(response.status, headers, b"".join(chunks), tuple(chunks))


def _is_classic(handle: Callable[..., Any]) -> bool:
    """Whether `handle` takes one argument: handle(req)."""
    try:
        inspect.signature(handle).bind(None, None)
    except TypeError:
        return True
    return False


def _pairs(values: Pairs) -> list[tuple[str, str]]:
    return list(values.items() if isinstance(values, Mapping) else values)
