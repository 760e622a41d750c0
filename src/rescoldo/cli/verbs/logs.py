"""`rescoldo logs`"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import click

from rescoldo.cli.completing import functions
from rescoldo.cli.flags import GatewayFlags
from rescoldo.cli.gateway import Gateway
from rescoldo.cli.options import Verb, Whole, connection_options, json_option, namespace_option
from rescoldo.cli.output import note, on_terminal, say, say_printed
from rescoldo.cli.target import not_deployed, open_gateway, reference
from rescoldo.model.errors import NotFound, RescoldoError
from rescoldo.model.logcursor import LogCursor
from rescoldo.model.names import DEFAULT_NAMESPACE
from rescoldo.model.units import parse_duration

PATIENCE = 30.0  # seconds that an interrupted gateway may take to come back
RETRY_PAUSE = 0.5  # seconds between attempts


@click.command("logs", cls=Verb)
@click.argument("name", shell_complete=functions)
@connection_options
@namespace_option
@json_option
@click.option("--follow/--no-follow", "--tail/--no-tail", default=True, help="Follow new lines. [default]")
@click.option("--lines", type=Whole(0), default=0, help="Only the last lines; 0: all.")
@click.option("--since", default="", metavar="DURATION", help="Only lines newer than this, such as 10m.")
@click.option("--since-time", default="", metavar="RFC3339", help="Only lines since this time.")
@click.option("--instance/--no-instance", "show_instance", default=True, help="Print the instance. [default]")
@click.option("--name/--no-name", "show_name", default=True, help="Print the function's name. [default]")
def logs_command(
    name: str,
    connection: GatewayFlags,
    namespace: str,
    as_json: bool,
    follow: bool,
    lines: int,
    since: str,
    since_time: str,
    show_instance: bool,
    show_name: bool,
) -> None:
    """Show what a function prints.

    Follows new lines until interrupted; --no-follow prints the existing lines and ends.
    """
    name, place = reference(name, namespace)
    if since and since_time:
        raise click.UsageError("--since and --since-time exclude each other; give one of them")
    if since:
        moment = datetime.fromtimestamp(time.time() - parse_duration(since, "--since"), UTC)
        since_time = moment.isoformat(timespec="seconds").replace("+00:00", "Z")
    params = {
        "name": name,
        "namespace": place if place != DEFAULT_NAMESPACE else "",
        "follow": "true" if follow else "false",
        "tail": str(lines) if lines else "",
        "since": since_time,
    }
    try:
        with open_gateway(connection) as opened:
            if follow and on_terminal():
                note(f"Following the log of {name}; press Ctrl-C to stop.")
            for text, entry in _entries(opened, params, follow=follow):
                if as_json:
                    say(text)
                else:
                    say_printed(_line(entry, show_instance, show_name))
    except NotFound as error:
        raise not_deployed(name, place) from error


def _entries(gateway: Gateway, params: Mapping[str, str], *, follow: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each line as text and parsed. With `follow` the stream resumes after an interruption of the gateway,
    without losing or repeating a line."""
    cursor = LogCursor(datetime.now(UTC).isoformat().replace("+00:00", "Z"))
    wanted, give_up = dict(params), 0.0
    while True:
        try:
            with gateway.system_stream("/system/logs", wanted) as response:
                give_up = time.monotonic() + PATIENCE
                for text in filter(None, map(str.strip, response.iter_lines())):
                    entry = json.loads(text)
                    moment, instance, line = (str(entry.get(key) or "") for key in ("timestamp", "instance", "text"))
                    if cursor.takes(moment, instance, line):
                        yield text, entry
                        give_up = time.monotonic() + PATIENCE
        except RescoldoError as error:
            if isinstance(error, NotFound) or not follow or time.monotonic() > give_up:
                raise
        if not follow:
            return
        wanted = {**params, "tail": "", "since": cursor.since}
        cursor.interrupted()
        time.sleep(RETRY_PAUSE)


def _line(entry: Mapping[str, Any], show_instance: bool, show_name: bool) -> str:
    parts = [str(entry.get("timestamp", ""))]
    if show_name:
        parts.append(str(entry.get("name", "")))
    if show_instance:
        parts.append(f"({entry.get('instance', '')})")
    return " ".join([*parts, str(entry.get("text", "")).rstrip("\n")])
