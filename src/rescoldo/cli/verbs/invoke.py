"""`rescoldo invoke`: one call, bytes in and bytes out."""

from __future__ import annotations

import base64
import hashlib
import hmac
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote, urlencode

import click

from rescoldo.cli.completing import functions
from rescoldo.cli.flags import GatewayFlags
from rescoldo.cli.gateway import Response
from rescoldo.cli.options import Verb, connection_options, folded, json_option, namespace_option
from rescoldo.cli.output import note, say, say_json
from rescoldo.cli.target import open_gateway, reference
from rescoldo.model.errors import RescoldoError

MOST_SHOWN = 2000  # bytes of an error's body that are shown
_KEPT = "/%:@!$&'()*+,;=~?-._"  # characters of a path that stay unquoted: users may have quoted the path already
_WITHOUT_BODY = ("GET", "HEAD")


@dataclass(frozen=True, slots=True)
class _RequestFlags:
    """The parts of a call besides the function and the body."""

    path: str
    method: str
    query: tuple[str, ...]
    header: tuple[str, ...]
    content_type: str
    sign: str
    key: str

    def check(self) -> None:
        """Raise UsageError for flags that exclude or need each other."""
        if bool(self.sign) != bool(self.key):
            raise click.UsageError("--sign and --key need each other: the header's name, and the key to sign with")

    def below(self, rest: str) -> str:
        """Return path and query below the function; `rest` is the part of NAME behind the function. Raises
        UsageError."""
        if rest and self.path:
            raise click.UsageError(f"the path is given twice, as /{rest} and as --path {self.path}; give it once")
        return _path(self.path or rest, self.query)

    def headers(self, body: bytes, token: str) -> list[tuple[str, str]]:
        """Return the request's headers, with the signature of `body` if the flags ask for one. Raises UsageError."""
        headers = [("Content-Type", self.content_type), *map(_header, self.header)]
        if self.method.upper() in _WITHOUT_BODY and not body:
            headers = headers[1:]
        if token:
            headers.append(("Authorization", f"Bearer {token}"))
        if self.sign:
            digest = hmac.new(self.key.encode(), body, hashlib.sha256).hexdigest()
            headers.append((self.sign, f"sha256={digest}"))
        return headers


_request_options = folded(
    _RequestFlags,
    "request",
    click.option("--path", default="", help="Path below the function; may include a query."),
    click.option("-m", "-X", "--method", default="POST", show_default=True, help="HTTP method."),
    click.option("--query", multiple=True, metavar="KEY=VALUE", help="Query parameter."),
    click.option("-H", "--header", multiple=True, metavar="'KEY: VALUE'", help="Request header."),
    click.option("--content-type", default="text/plain", show_default=True),
    click.option(
        "--sign", default="", metavar="HEADER", help="Add this header with the body's HMAC-SHA256; needs --key."
    ),
    click.option("--key", default="", help="Key to sign with; other users of this machine can see it."),
)


@click.command("invoke", cls=Verb)
@click.argument("name", metavar="NAME[/PATH]", shell_complete=functions)
@connection_options
@namespace_option
@json_option
@_request_options
@click.option("-a", "--async", "asynchronous", is_flag=True, help="Queue the call; do not wait for the response.")
@click.option("-i", "--include", is_flag=True, help="Print status, headers and times, too.")
def invoke_command(
    name: str,
    connection: GatewayFlags,
    namespace: str,
    as_json: bool,
    request: _RequestFlags,
    asynchronous: bool,
    include: bool,
) -> int:
    """Call a function with standard input as body.

    Prints the response's body; a status other than 2xx is a failure. --json prints status, headers, body and times as
    one object, with `body_base64` for a body that is not text.
    """
    request.check()
    if include and as_json:
        raise click.UsageError("--include and --json exclude each other: the object has status, headers and times")
    name, _, rest = name.partition("/")
    below = request.below(rest)
    name, place = reference(name, namespace)
    method = request.method.upper()
    body = _body(method)
    headers = request.headers(body, connection.token)
    route = "async-function" if asynchronous else "function"
    target = f"/{route}/{quote(name)}.{quote(place)}{below}"
    with open_gateway(replace(connection, token="")) as opened:
        started = time.perf_counter()
        with opened.stream(method, target, content=body, headers=headers) as response:
            answer = _Answer(response, f"{name}.{place}", started, time.perf_counter() - started)
            status = answer.as_json() if as_json else answer.included() if include else answer.passed_on()
    if asynchronous and not as_json:
        say("Function submitted asynchronously.")
    return status


@dataclass(frozen=True, slots=True)
class _Answer:
    """A function's response before its body was read."""

    response: Response
    function: str
    started: float  # start of the call in seconds of perf_counter
    first: float  # seconds from `started` to the response's head

    @property
    def status(self) -> int:
        """The verb's exit status."""
        return 0 if self.response.is_success else 1

    def passed_on(self) -> int:
        """Stream the body to standard output. Raises RescoldoError for a status other than 2xx."""
        if not self.response.is_success:
            text = self.response.read()[:MOST_SHOWN].decode("utf-8", "replace").strip()
            raise RescoldoError(f"{self.function} answered {self.response.status_code}: {text}")
        self._copy()
        return self.status

    def included(self) -> int:
        """Print status and headers, stream the body and print the times."""
        say(f"{self.response.http_version} {self.response.status_code} {self.response.reason_phrase}".rstrip())
        for key, value in self.response.headers.raw:  # the raw names: the mapping's names are in lower case
            say(f"{key.decode('latin-1')}: {value.decode('latin-1')}")
        say()
        sys.stdout.flush()
        self._copy()
        note(f"\n{self._told(time.perf_counter() - self.started)}")
        return self.status

    def as_json(self) -> int:
        body = self.response.read()
        try:
            content = {"body": body.decode()}
        except UnicodeDecodeError:
            content = {"body_base64": base64.b64encode(body).decode()}
        say_json(
            {
                "status": self.response.status_code,
                "headers": _table(self.response.headers.multi_items()),
                **content,
                "seconds": {"first": round(self.first, 6), "all": round(time.perf_counter() - self.started, 6)},
            }
        )
        return self.status

    def _copy(self) -> None:
        for chunk in self.response.iter_bytes():
            sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()

    def _told(self, took: float) -> str:
        headers = self.response.headers
        told = [f"First byte after {_time(self.first)}, complete after {_time(took)}"]
        if duration := headers.get("X-Duration-Seconds", ""):
            told.append(f"{duration} s spent in the function")
        if cold := headers.get("X-Cold-Start", ""):
            told.append({"true": "cold start", "false": "was awake"}.get(cold, cold))
        return "; ".join(told) + "."


def _time(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def _table(headers: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Return headers by name; a repeated name has a list of values."""
    found: dict[str, Any] = {}
    for key, value in headers:
        before = found.get(key)
        found[key] = value if before is None else [*(before if isinstance(before, list) else [before]), value]
    return found


def _body(method: str) -> bytes:
    if sys.stdin.isatty():
        if method in _WITHOUT_BODY:
            return b""
        note("Reading the body from the terminal; press Ctrl-D to end it.")
    return sys.stdin.buffer.read()


def _path(path: str, query: Sequence[str]) -> str:
    """Return path and query below the function."""
    path = quote(path.lstrip("/"), safe=_KEPT)
    pairs = urlencode([(key, value) for key, _, value in (text.partition("=") for text in query)])
    mark = "" if not pairs else "&" if "?" in path else "?"
    return f"{'/' if path and not path.startswith('?') else ''}{path}{mark}{pairs}"


def _header(text: str) -> tuple[str, str]:
    # faas-cli once took K=V; a colon wins if the text has both
    mark = ":" if ":" in text else "="
    key, found, value = text.partition(mark)
    if not found or not key.strip():
        raise click.UsageError(f"--header {text!r}: write 'KEY: VALUE'")
    return key.strip(), value.strip()
