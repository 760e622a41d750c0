"""`rescoldo list`, `describe`, `scale` and `ready`"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import click

from rescoldo.cli.coldstarts import say_cold_starts
from rescoldo.cli.completing import functions
from rescoldo.cli.failures import say_failures
from rescoldo.cli.flags import GatewayFlags
from rescoldo.cli.gateway import Gateway
from rescoldo.cli.isolation import UNPRIVILEGED, not_protected
from rescoldo.cli.limits import say_limits
from rescoldo.cli.options import Verb, Whole, connection_options, json_option, namespace_option
from rescoldo.cli.output import human_size, note, say, say_columns, say_json
from rescoldo.cli.target import not_deployed, open_gateway, reference
from rescoldo.cli.why import say_why
from rescoldo.model.errors import NotFound, RescoldoError
from rescoldo.model.names import DEFAULT_NAMESPACE
from rescoldo.model.units import parse_duration

# rows of `describe` with one line for each entry: title → field
_TABLES = {
    "Environment": "envVars",
    "Labels": "labels",
    "Annotations": "annotations",
    "Requests": "requests",
    "Limits": "limits",
}
_REASON = 200  # characters of a reason in a list
_SORTS = {
    "name": lambda item: item["name"],
    "invocations": lambda item: (-item.get("invocationCount", 0), item["name"]),
    "creation": lambda item: (item.get("createdAt", ""), item["name"]),
}


@click.command("list", cls=Verb)
@connection_options
@namespace_option
@json_option
@click.option("-v", "--verbose", is_flag=True, help="Show the creation time, too.")
@click.option("-q", "--quiet", is_flag=True, help="Names only.")
@click.option("--sort", type=click.Choice([*_SORTS]), default="name", show_default=True)
def list_command(
    connection: GatewayFlags, namespace: str, as_json: bool, verbose: bool, quiet: bool, sort: str
) -> None:
    """List deployed functions."""
    with open_gateway(connection) as opened:
        found = opened.system("GET", "/system/functions", params={"namespace": namespace}).json()
    found.sort(key=_SORTS[sort])
    if as_json:
        say_json(found)
    elif quiet:
        for item in found:
            say(item["name"])
    else:
        head = ("Function", "Image", "Replicas", "Invocations", "Status", *(("CreatedAt",) if verbose else ()))
        say_columns(head, [_row(item, verbose) for item in found])


def _row(item: Mapping[str, Any], verbose: bool) -> tuple[Any, ...]:
    calls, replicas = int(item.get("invocationCount") or 0), int(item.get("replicas") or 0)
    row = (item["name"], item.get("image", ""), replicas, calls, status_text(item, brief=True))
    return (*row, item.get("createdAt", "")) if verbose else row


def status_text(found: Mapping[str, Any], *, brief: bool = False) -> str:
    """Describe a function's state in words, with the reason of a failure. With `brief` only the reason's first line:
    the function printed the rest. A gateway that does not report the state reports only whether there are instances."""
    available = int(found.get("availableReplicas") or 0)
    state = str(found.get("state") or ("ready" if available else "asleep")).capitalize()
    if not (reason := str(found.get("reason") or "").strip()):
        return state
    if brief:
        own = f"{found.get('name')}.{found.get('namespace')}: "
        first = reason.partition("\n")[0].removeprefix(own)
        reason = first if len(first) <= _REASON else f"{first[: _REASON - 1]}…"
    return f"{state}: {reason}"


@click.command("describe", cls=Verb)
@click.argument("name", shell_complete=functions)
@connection_options
@namespace_option
@json_option
@click.option("--why", is_flag=True, help="Explain the number of instances.")
def describe_command(name: str, connection: GatewayFlags, namespace: str, as_json: bool, why: bool) -> None:
    """Show one function in full."""
    name, place = reference(name, namespace)
    with open_gateway(connection) as opened:
        found = _function(opened, name, place, why=why)
        # what the function's worker says, else the platform: older gateways say it in their status alone
        found["isolation"] = found.get("isolation") or _isolation(opened)
        found.setdefault("notes", [])  # no notes, or a gateway that does not report them
        if as_json:
            say_json(found)
            return
        suffix = "" if place == DEFAULT_NAMESPACE else f".{place}"
        _describe(found, f"{opened.url}/function/{name}{suffix}")


def _function(gateway: Gateway, name: str, namespace: str, *, why: bool = False) -> dict[str, Any]:
    own = namespace if namespace != DEFAULT_NAMESPACE else ""
    params = {"namespace": own, "usage": "1", **({"why": "1"} if why else {})}
    try:
        answer = gateway.system("GET", f"/system/function/{name}", params=params)
    except NotFound as error:
        raise not_deployed(name, namespace) from error
    found = answer.json()
    assert isinstance(found, dict)
    return found


def _isolation(gateway: Gateway) -> dict[str, str]:
    """Return what isolates the instances, as `rescoldo status` shows it; nothing if the gateway does not report it."""
    try:
        return dict(gateway.system("GET", "/system/status").json()["isolation"])
    except (RescoldoError, ValueError, TypeError, KeyError):
        return {}


def _describe(found: Mapping[str, Any], url: str) -> None:
    available = int(found.get("availableReplicas") or 0)
    usage = found.get("usage") or {}
    rows = {
        "Name": found.get("name", ""),
        "Status": status_text(found),
        "Replicas": found.get("replicas", 0),
        "Available": available,
        "Invocations": int(found.get("invocationCount") or 0),
        "Image": found.get("image", ""),
        "Revision": found.get("revision", ""),
        "Traffic": ", ".join(f"{percent} % to revision {number}" for number, percent in _traffic(found).items()),
        "Process": found.get("envProcess") or "<default>",
        "Namespace": found.get("namespace", ""),
        "URL": url,
        "Created": found.get("createdAt", ""),
        "Usage": _usage(usage),
        "Isolation": _protection(found["isolation"]),
        "Gateway": found["isolation"].get("gateway", ""),  # the gateway's address for the function's own calls
    }
    for key, value in rows.items():
        if value != "":
            say(f"{key + ':':<14}{value}")
    for title, key in _TABLES.items():
        for i, (name, value) in enumerate(sorted((found.get(key) or {}).items())):
            say(f"{'' if i else title + ':':<14}{name}={value}")
    for title, key in (("Constraints", "constraints"), ("Secrets", "secrets")):
        if found.get(key):
            say(f"{title + ':':<14}{', '.join(found[key])}")
    for i, text in enumerate(found["notes"]):
        say(f"{'' if i else 'Notes:':<14}{text}")
    say_limits(found.get("effectiveLimits") or {}, by=found["isolation"].get("limits"))
    say_cold_starts(found.get("coldStarts") or {})
    say_failures(found.get("failures") or [])
    say_why(found.get("why") or {})


def _traffic(found: Mapping[str, Any]) -> dict[str, int]:
    """Return the percentages of the calls by revision; empty if all calls go to the current one."""
    return dict(found.get("traffic") or {})


def _protection(isolation: Mapping[str, str]) -> str:
    if isolation.get("level") == UNPRIVILEGED:
        return f"{UNPRIVILEGED}: {not_protected(isolation)}"
    return ", ".join(f"{key} {value}" for key, value in isolation.items() if key != "gateway")


def _usage(usage: Mapping[str, Any]) -> str:
    if not usage:
        return ""
    return f"{usage.get('cpu', 0):.0f}m cpu, {human_size(int(usage.get('totalMemoryBytes') or 0))}"


@click.command("scale", cls=Verb)
@click.argument("name", shell_complete=functions)
@click.argument("replicas", type=Whole(0))
@connection_options
@namespace_option
@json_option
def scale_command(name: str, replicas: int, connection: GatewayFlags, namespace: str, as_json: bool) -> None:
    """Set how many instances a function has; 0 puts it to sleep."""
    name, place = reference(name, namespace)
    body = {"serviceName": name, "replicas": replicas, "namespace": place}
    with open_gateway(connection) as opened:
        try:
            opened.system("POST", f"/system/scale-function/{name}", params={"namespace": place}, json=body)
        except NotFound as error:
            raise not_deployed(name, place) from error
    if as_json:
        say_json({"name": name, "namespace": place, "replicas": replicas})
    else:
        say(f"Scaled {name} to {replicas}.")


@click.command("ready", cls=Verb)
@click.argument("name", required=False, default=None, shell_complete=functions)
@connection_options
@namespace_option
@json_option
@click.option("--attempts", type=Whole(1), default=60, show_default=True)
@click.option("--interval", default="1s", show_default=True, help="Time between attempts.")
def ready_command(
    name: str | None, connection: GatewayFlags, namespace: str, as_json: bool, attempts: int, interval: str
) -> None:
    """Wait until the gateway or a function is ready.

    A sleeping function counts as ready. A paused function, or one that fails to start, is an immediate failure.
    """
    pause = parse_duration(interval, "--interval")
    with open_gateway(connection) as opened:
        for attempt in range(1, attempts + 1):
            waiting = _gateway_waits(opened) if name is None else _waits(opened, *reference(name, namespace))
            if not waiting:
                if as_json:
                    say_json({"name": name or opened.url, "ready": True, "attempts": attempt})
                else:
                    say("Ready.")
                return
            note(f"[{attempt}/{attempts}] {name or opened.url} is not ready: {waiting}")
            if attempt < attempts:
                time.sleep(pause)
    if as_json:
        say_json({"name": name or opened.url, "ready": False, "attempts": attempts})
    raise RescoldoError(f"{name or 'the gateway'} was not ready after {attempts} attempts: {waiting}")


def _gateway_waits(gateway: Gateway) -> str:
    """Return why the gateway is not ready; empty if it is."""
    return "" if gateway.answers() else "no answer"


def _waits(gateway: Gateway, name: str, namespace: str) -> str:
    """Return why a function is not ready; empty if it is. Raises RescoldoError if waiting does not help."""
    try:
        found = _function(gateway, name, namespace)
    except NotFound as error:
        return error.message
    if found.get("state") in ("failing", "paused"):
        raise RescoldoError(f"{name} is not ready. {status_text(found)}")
    if found.get("state") == "asleep" or int(found.get("availableReplicas") or 0) > 0:
        return ""
    return status_text(found, brief=True) if found.get("state") else "no replica is available"
