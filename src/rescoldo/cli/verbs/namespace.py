"""`rescoldo namespace`"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import click

from rescoldo.cli.completing import namespaces
from rescoldo.cli.flags import GatewayFlags
from rescoldo.cli.options import Verb, connection_options, folded, json_option
from rescoldo.cli.output import say, say_columns, say_json
from rescoldo.cli.project import pairs
from rescoldo.cli.target import open_gateway
from rescoldo.model.names import check_name

ONE = "/system/namespace/"
MARK = {"openfaas": "1"}  # other OpenFaaS gateways recognize their namespaces by this annotation and label


@click.group("namespace")
def namespace_command() -> None:
    """Namespaces, each with functions and secrets of its own."""


@dataclass(frozen=True, slots=True)
class _Notes:
    """The labels and annotations of a namespace."""

    label: tuple[str, ...]
    annotation: tuple[str, ...]

    def body(self, name: str) -> dict[str, Any]:
        """Return the request's body. Raises UsageError."""
        return {
            "name": name,
            "labels": {**pairs(self.label, "--label"), **MARK},
            "annotations": {**pairs(self.annotation, "--annotation"), **MARK},
        }


_note_options = folded(
    _Notes,
    "notes",
    click.option("-l", "--label", multiple=True, metavar="KEY=VALUE", help="Label."),
    click.option("--annotation", multiple=True, metavar="KEY=VALUE", help="Annotation."),
)


@namespace_command.command("create", cls=Verb)
@click.argument("name")
@_note_options
@connection_options
@json_option
def create_command(name: str, notes: _Notes, connection: GatewayFlags, as_json: bool) -> None:
    """Create a namespace."""
    check_name(name, "namespace")
    _write("POST", ONE, notes.body(name), connection, "Created", as_json)


@namespace_command.command("update", cls=Verb)
@click.argument("name", shell_complete=namespaces)
@_note_options
@connection_options
@json_option
def update_command(name: str, notes: _Notes, connection: GatewayFlags, as_json: bool) -> None:
    """Replace a namespace's labels and annotations."""
    _write("PUT", _path(name), notes.body(name), connection, "Updated", as_json)


@namespace_command.command("list", cls=Verb)
@connection_options
@json_option
def list_command(connection: GatewayFlags, as_json: bool) -> None:
    """List namespaces."""
    with open_gateway(connection) as opened:
        found = opened.system("GET", "/system/namespaces").json()
    if as_json:
        say_json(found)
    else:
        say_columns(("Namespace",), [(name,) for name in found])


@namespace_command.command("get", cls=Verb)
@click.argument("name", shell_complete=namespaces)
@connection_options
@json_option
def get_command(name: str, connection: GatewayFlags, as_json: bool) -> None:
    """Show a namespace's labels and annotations."""
    with open_gateway(connection) as opened:
        found = opened.system("GET", _path(name)).json()
    if as_json:
        say_json(found)
        return
    say(f"{'Name:':<14}{found['name']}")
    for title, key in (("Labels", "labels"), ("Annotations", "annotations")):
        for i, (word, value) in enumerate(sorted((found.get(key) or {}).items())):
            say(f"{'' if i else title + ':':<14}{word}={value}")


@namespace_command.command("remove", cls=Verb)
@click.argument("name", shell_complete=namespaces)
@connection_options
@json_option
def remove_command(name: str, connection: GatewayFlags, as_json: bool) -> None:
    """Remove a namespace that has no functions, with its secrets."""
    body = {"name": name, "labels": MARK}
    _write("DELETE", _path(name), body, connection, "Removed", as_json)


def _path(name: str) -> str:
    """Return the route of a namespace. Raises InvalidInput for an empty name, with which it would be another route."""
    return ONE + quote(name or check_name(name, "namespace"), safe="")


def _write(
    method: str, path: str, body: Mapping[str, Any], connection: GatewayFlags, done: str, as_json: bool
) -> None:
    with open_gateway(connection) as opened:
        opened.system(method, path, json=body)
    if as_json:
        say_json(body)
    else:
        say(f"{done} namespace {body['name']}.")
