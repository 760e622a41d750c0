"""`rescoldo invoke`: one call, bytes in and bytes out."""

from __future__ import annotations

import hashlib
import hmac
import sys
from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import quote, urlencode

import click

from rescoldo.cli.gateway import Response
from rescoldo.cli.options import Connection, Verb, connection_options, namespace_option
from rescoldo.cli.output import note, say
from rescoldo.cli.verbs.functions import open_gateway, reference
from rescoldo.model.errors import RescoldoError

MOST_SHOWN = 2000  # bytes of an error's body


@click.command("invoke", cls=Verb)
@click.argument("name")
@connection_options
@namespace_option
@click.option("-m", "--method", default="POST", show_default=True, help="HTTP method.")
@click.option("--query", multiple=True, metavar="KEY=VALUE", help="Query parameter.")
@click.option("-H", "--header", multiple=True, metavar="'KEY: VALUE'", help="Request header.")
@click.option("--content-type", default="text/plain", show_default=True)
@click.option("--sign", default="", metavar="HEADER", help="Add this header with the body's HMAC-SHA256; needs --key.")
@click.option("--key", default="", help="Key to sign with; other users of this machine can see it.")
@click.option("-a", "--async", "asynchronous", is_flag=True, help="Queue the call and do not wait.")
def invoke_command(
    name: str,
    connection: Connection,
    namespace: str,
    method: str,
    query: tuple[str, ...],
    header: tuple[str, ...],
    content_type: str,
    sign: str,
    key: str,
    asynchronous: bool,
) -> None:
    """Call a function with standard input as body.

    Its answer goes to standard output; a status other than 2xx is a failure.
    """
    if bool(sign) != bool(key):
        raise click.UsageError("--sign and --key go together: the header's name, and the key to sign with")
    name, place = reference(name, namespace)
    bearer = [("Authorization", f"Bearer {connection.token}")] if connection.token else []
    headers = [("Content-Type", content_type), *map(_header, header), *bearer]
    route = "async-function" if asynchronous else "function"
    path = f"/{route}/{quote(name)}.{quote(place)}{_query(query)}"
    if sys.stdin.isatty():
        note("Reading the body from the terminal; end it with Ctrl-D.")
    body = sys.stdin.buffer.read()
    if sign:
        headers.append((sign, f"sha256={hmac.new(key.encode(), body, hashlib.sha256).hexdigest()}"))
    with (
        open_gateway(replace(connection, token="")) as opened,
        opened.stream(method.upper(), path, content=body, headers=headers) as response,
    ):
        _pass_on(response, f"{name}.{place}")
    if asynchronous:
        say("Function submitted asynchronously.")


def _pass_on(response: Response, function: str) -> None:
    """The answer as it comes, to standard output. Raises RescoldoError for a status other than 2xx."""
    if not response.is_success:
        text = response.read()[:MOST_SHOWN].decode("utf-8", "replace").strip()
        raise RescoldoError(f"{function} answered {response.status_code}: {text}")
    for chunk in response.iter_bytes():
        sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()


def _header(text: str) -> tuple[str, str]:
    # faas-cli once took K=V; the colon decides where there are both
    mark = ":" if ":" in text else "="
    key, found, value = text.partition(mark)
    if not found or not key.strip():
        raise click.UsageError(f"--header {text!r}: write 'KEY: VALUE'")
    return key.strip(), value.strip()


def _query(values: Sequence[str]) -> str:
    pairs = [value.partition("=") for value in values]
    return "?" + urlencode([(key, value) for key, _, value in pairs]) if pairs else ""
