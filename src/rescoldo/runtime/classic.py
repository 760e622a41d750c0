"""Gives each call of a classic handler its own output and environment.

In OpenFaaS's python3 template a call is a process: its output is the response, its environment describes the request,
and sys.exit() ends it. Here calls share a process, in threads, so a context variable separates them. Threads that a
handler starts do not inherit it: their output goes to the log.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import suppress
from contextvars import ContextVar
from typing import Any
from urllib.parse import unquote

from rescoldo.runtime.events import Headers, Request, split_target
from rescoldo.runtime.journal import JOURNAL
from rescoldo.runtime.results import TEXT, Response

MOST_PRINTED = 64 * 2**20  # bytes that one call may print as its response


class _Call:
    """One call: its output so far and its own environment."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment
        self._pieces: list[bytes] = []
        self._size = 0

    def add(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > MOST_PRINTED:
            raise OSError(f"a call may print at most {MOST_PRINTED} bytes as its response")
        self._pieces.append(data)

    def answer(self, result: object) -> object:
        """Return `result`, or the printed output if `result` is None."""
        if result is not None or not self._pieces:
            return result
        printed, self._pieces = b"".join(self._pieces), []
        try:
            return printed.decode()
        except UnicodeDecodeError:
            return printed

    def exited(self, code: object) -> object:
        """Return the response after sys.exit(code)."""
        if code is None or (isinstance(code, int) and code == 0):
            return self.answer(None)
        text = f"exit status {code}" if isinstance(code, int) else str(code)
        JOURNAL.say(f"rescoldo: the function called sys.exit({code!r:.1000})\n")
        return Response(500, TEXT, text.encode(errors="backslashreplace") + b"\n")

    def log(self, stream: Any) -> None:
        """Write output that did not become the response to the log."""
        if self._pieces:
            with suppress(Exception):  # the function may have broken the stream
                stream.write(b"".join(self._pieces).decode(errors="backslashreplace"))


_call: ContextVar[_Call | None] = ContextVar("call", default=None)


class _Output:
    """sys.stdout: takes the output of the current call; outside of a call, writes to the process's own stream."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.buffer = _Bytes(stream)

    def write(self, text: str) -> int:
        call = _call.get()
        if call is None:
            return int(self._stream.write(text))
        call.add(text.encode(errors="backslashreplace"))
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Bytes:
    """sys.stdout.buffer: as _Output, for bytes."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, data: bytes) -> int:
        call = _call.get()
        if call is None:
            return int(self._stream.buffer.write(data))
        call.add(bytes(data))
        return len(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream.buffer, name)


class _Environment(MutableMapping[str, str]):
    """os.environ: within a call, its own variables take precedence over the process's."""

    def __init__(self, process: MutableMapping[str, str]) -> None:
        self._process = process

    def _own(self) -> dict[str, str]:
        call = _call.get()
        return {} if call is None else call.environment

    def __getitem__(self, name: str) -> str:
        own = self._own()
        return own[name] if name in own else self._process[name]

    def __setitem__(self, name: str, value: str) -> None:
        self._own().pop(name, None)
        self._process[name] = value

    def __delitem__(self, name: str) -> None:
        if self._own().pop(name, None) is None:
            del self._process[name]

    def __iter__(self) -> Iterator[str]:
        own = self._own()
        return iter([*own, *(name for name in self._process if name not in own)])

    def __len__(self) -> int:
        return len({*self._own(), *self._process})

    def __repr__(self) -> str:
        return f"environ({dict(self)!r})"

    def __or__(self, other: Mapping[str, str]) -> dict[str, str]:
        return {**self, **other}

    def __ror__(self, other: Mapping[str, str]) -> dict[str, str]:
        return {**other, **self}

    def copy(self) -> dict[str, str]:
        """Return a plain dict."""
        return dict(self)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._process, name)


def share_process() -> None:
    """Give each call its own output and environment from now on."""
    sys.stdout = _Output(sys.stdout)
    os.environ = _Environment(os.environ)  # type: ignore[assignment]  # noqa: B003


def caller(handle: Callable[[str], Any], *, on_loop: bool) -> Callable[[Request], Any]:
    """Wrap `handle` so that it takes a request."""
    log = sys.stdout

    def call(request: Request) -> Any:
        own = _Call(variables(request))
        token = _call.set(own)
        try:
            return own.answer(handle(request.body.decode(errors="replace")))
        except SystemExit as error:
            return own.exited(error.code)
        finally:
            _call.reset(token)
            own.log(log)

    async def call_on_loop(request: Request) -> Any:
        own = _Call(variables(request))
        token = _call.set(own)
        try:
            result = handle(request.body.decode(errors="replace"))
            return own.answer(await result if hasattr(result, "__await__") else result)
        except SystemExit as error:
            return own.exited(error.code)
        finally:
            _call.reset(token)
            own.log(log)

    return call_on_loop if on_loop else call


def variables(request: Request) -> dict[str, str]:
    """Return the classic watchdog's variables for a request, and the most common ones of CGI.

    Source: https://github.com/openfaas/classic-watchdog (README, "Working with HTTP headers"). A header "Proxy" is
    left out: Python would take Http_Proxy as the address of a proxy.
    """
    path, query = split_target(request.target)
    headers = Headers(request.headers)
    own = {f"Http_{name.replace('-', '_')}": value for name, value in headers.items() if name != "Proxy"}
    own |= {"Http_Method": request.method, "Http_Path": path}
    own |= {"REQUEST_METHOD": request.method, "PATH_INFO": unquote(path, errors="replace")}
    own |= {"QUERY_STRING": query, "CONTENT_TYPE": headers.get("Content-Type", "")}
    own["CONTENT_LENGTH"] = own["Http_ContentLength"] = str(len(request.body))
    if query:
        own["Http_Query"] = query
    return {name: value.replace("\0", "") for name, value in own.items()}
