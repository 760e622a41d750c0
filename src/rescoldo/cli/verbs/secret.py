"""`rescoldo secret`: sends values to the gateway and never shows them."""

from __future__ import annotations

import base64
import sys
from dataclasses import dataclass
from pathlib import Path

import click

from rescoldo.cli.completing import secrets
from rescoldo.cli.deployment import Accepted
from rescoldo.cli.flags import GatewayFlags
from rescoldo.cli.notes import tell_notes
from rescoldo.cli.options import Verb, connection_options, folded, json_option, namespace_option
from rescoldo.cli.output import say, say_columns, say_json
from rescoldo.cli.target import open_gateway
from rescoldo.model.names import DEFAULT_NAMESPACE, check_secret_name
from rescoldo.model.secret import MAX_SECRET, check_secret

SECRETS = "/system/secrets"


@click.group("secret")
def secret_command() -> None:
    """Secrets of functions, files at /var/openfaas/secrets/NAME."""


@dataclass(frozen=True, slots=True)
class _Value:
    """The sources of a secret's value."""

    from_literal: str | None
    from_file: Path | None
    trim: bool

    def body(self, name: str, namespace: str) -> dict[str, str]:
        """Return the request's body: text as `value`, which every gateway understands, other bytes as `rawValue`."""
        value = self._read(name)
        try:
            text = value.decode()
        except UnicodeDecodeError:
            check_secret(name, value)
            return {**_reference(name, namespace), "rawValue": base64.b64encode(value).decode()}
        text = text.strip() if self.trim else text
        check_secret(name, text.encode())
        return {**_reference(name, namespace), "value": text}

    def _read(self, name: str) -> bytes:
        if self.from_literal is not None and self.from_file is not None:
            raise click.UsageError("--from-literal and --from-file exclude each other; give one of them")
        if self.from_literal is not None:
            return self.from_literal.encode(errors="surrogateescape")
        if self.from_file is not None:
            with self.from_file.open("rb") as opened:
                return opened.read(MAX_SECRET + 1)
        if sys.stdin.isatty():
            prompted: str = click.prompt(f"Value of {name}", hide_input=True, err=True)
            return prompted.encode()
        return sys.stdin.buffer.read(MAX_SECRET + 1)


_value_options = folded(
    _Value,
    "value",
    click.option("--from-literal", help="Visible to other users of this machine: prefer a file or standard input."),
    click.option(
        "--from-file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Read the value from this "
        "file."
    ),
    click.option("--trim/--no-trim", default=True, show_default=True, help="Strip white space around the value."),
)


@secret_command.command("create", cls=Verb)
@click.argument("name")
@_value_options
@click.option("--replace", is_flag=True, help="Update the secret where it exists.")
@connection_options
@namespace_option
@json_option
def create_command(
    name: str, value: _Value, replace: bool, connection: GatewayFlags, namespace: str, as_json: bool
) -> None:
    """Create a secret from --from-file, --from-literal or standard input."""
    body = value.body(name, namespace)
    with open_gateway(connection) as opened:
        accept = (200, 201, 202, 409) if replace else (200, 201, 202)
        answer = opened.system("POST", SECRETS, json=body, accept=accept)
        if answer.status_code == 409:
            answer = opened.system("PUT", SECRETS, json=body)
    tell_notes(name, Accepted.read(answer, waited=False).notes)
    _report("Created", name, namespace, as_json)


@secret_command.command("update", cls=Verb)
@click.argument("name", shell_complete=secrets)
@_value_options
@connection_options
@namespace_option
@json_option
def update_command(name: str, value: _Value, connection: GatewayFlags, namespace: str, as_json: bool) -> None:
    """Change a secret; functions that use it get new instances."""
    body = value.body(name, namespace)
    with open_gateway(connection) as opened:
        answer = opened.system("PUT", SECRETS, json=body)
    tell_notes(name, Accepted.read(answer, waited=False).notes)
    _report("Updated", name, namespace, as_json)


@secret_command.command("list", cls=Verb)
@connection_options
@namespace_option
@json_option
def list_command(connection: GatewayFlags, namespace: str, as_json: bool) -> None:
    """List the names of a namespace's secrets."""
    with open_gateway(connection) as opened:
        found = opened.system("GET", SECRETS, params={"namespace": namespace}).json()
    if as_json:
        say_json(found)
    else:
        say_columns(("Name", "Namespace"), [(item["name"], item.get("namespace", "")) for item in found])


@secret_command.command("remove", cls=Verb)
@click.argument("name", shell_complete=secrets)
@connection_options
@namespace_option
@json_option
def remove_command(name: str, connection: GatewayFlags, namespace: str, as_json: bool) -> None:
    """Remove a secret that no function uses."""
    check_secret_name(name)
    with open_gateway(connection) as opened:
        opened.system("DELETE", SECRETS, json=_reference(name, namespace))
    _report("Removed", name, namespace, as_json)


def _reference(name: str, namespace: str) -> dict[str, str]:
    return {"name": name} | ({"namespace": namespace} if namespace else {})


def _report(done: str, name: str, namespace: str, as_json: bool) -> None:
    if as_json:
        say_json({"name": name, "namespace": namespace or DEFAULT_NAMESPACE})
    else:
        say(f"{done} secret {name} in namespace {namespace or DEFAULT_NAMESPACE}.")
