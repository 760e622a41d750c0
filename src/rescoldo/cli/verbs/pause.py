"""`rescoldo pause` and `rescoldo resume`"""

from __future__ import annotations

import click

from rescoldo.cli.completing import functions
from rescoldo.cli.flags import GatewayFlags
from rescoldo.cli.options import Verb, connection_options, json_option, namespace_option
from rescoldo.cli.output import say, say_json
from rescoldo.cli.target import not_deployed, open_gateway, reference
from rescoldo.model.errors import NotFound


@click.command("pause", cls=Verb)
@click.argument("name", shell_complete=functions)
@connection_options
@namespace_option
@json_option
def pause_command(name: str, connection: GatewayFlags, namespace: str, as_json: bool) -> None:
    """Refuse a function's calls until it is resumed.

    They get 503. Calls in flight finish; then the instances stop, whatever the minimum is.
    """
    _ask("pause", name, connection, namespace)
    _report(name, True, as_json)


@click.command("resume", cls=Verb)
@click.argument("name", shell_complete=functions)
@connection_options
@namespace_option
@json_option
def resume_command(name: str, connection: GatewayFlags, namespace: str, as_json: bool) -> None:
    """Resume a paused function."""
    _ask("resume", name, connection, namespace)
    _report(name, False, as_json)


def _ask(what: str, name: str, connection: GatewayFlags, namespace: str) -> None:
    name, place = reference(name, namespace)
    with open_gateway(connection) as opened:
        try:
            opened.system("POST", f"/system/function/{name}/{what}", params={"namespace": place})
        except NotFound as error:
            raise not_deployed(name, place) from error


def _report(name: str, paused: bool, as_json: bool) -> None:
    if as_json:
        say_json({"name": name, "paused": paused})
    else:
        say(f"{'Paused' if paused else 'Resumed'} {name}.")
