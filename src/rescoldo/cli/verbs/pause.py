"""`rescoldo pause` and `rescoldo resume`"""

from __future__ import annotations

import click

from rescoldo.cli.completing import functions
from rescoldo.cli.flags import GatewayFlags
from rescoldo.cli.options import Verb, connection_options, json_option, namespace_option
from rescoldo.cli.output import say, say_json
from rescoldo.cli.verbs.functions import open_gateway, reference
from rescoldo.model.errors import NotFound


@click.command("pause", cls=Verb)
@click.argument("name", shell_complete=functions)
@connection_options
@namespace_option
@json_option
def pause_command(name: str, connection: GatewayFlags, namespace: str, as_json: bool) -> None:
    """Refuse a function's calls until it is resumed.

    They get 503. What is in flight is finished, and its instances end, whatever its minimum is.
    """
    _ask("pause", name, connection, namespace)
    if as_json:
        say_json({"name": name, "paused": True})
    else:
        say(f"Paused {name}.")


@click.command("resume", cls=Verb)
@click.argument("name", shell_complete=functions)
@connection_options
@namespace_option
@json_option
def resume_command(name: str, connection: GatewayFlags, namespace: str, as_json: bool) -> None:
    """Take a paused function's calls again."""
    _ask("resume", name, connection, namespace)
    if as_json:
        say_json({"name": name, "paused": False})
    else:
        say(f"Resumed {name}.")


def _ask(what: str, name: str, connection: GatewayFlags, namespace: str) -> None:
    name, place = reference(name, namespace)
    with open_gateway(connection) as opened:
        try:
            opened.system("POST", f"/system/function/{name}/{what}", params={"namespace": place})
        except NotFound as error:
            raise NotFound(f"no such function: {name}.{place}") from error
