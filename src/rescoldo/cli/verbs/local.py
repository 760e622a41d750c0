"""`rescoldo serve`, `down` and `status`: the platform on this machine."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from rescoldo.cli.coldstarts import say_cold_starts
from rescoldo.cli.gateway import Gateway, choose_gateway
from rescoldo.cli.local import local_platform, note_start, others
from rescoldo.cli.options import Verb, Whole, data_option, gateway_options, json_option
from rescoldo.cli.output import human_size, note, say, say_columns, say_json
from rescoldo.cli.platform import local_settings, remembered_settings, run_foreground, start_background, stop
from rescoldo.cli.service import ServiceFlags, change_service, check_service, service_options
from rescoldo.cli.serving import (
    Capacity,
    Listening,
    Stopping,
    capacity_options,
    default_options,
    listening_options,
    stopping_options,
)
from rescoldo.model.errors import InvalidInput
from rescoldo.model.limits import platform_limits
from rescoldo.model.revision import KEPT_REVISIONS, MOST_KEPT_REVISIONS
from rescoldo.model.scaling import platform_scaling
from rescoldo.model.settings import Settings, default_data_dir
from rescoldo.model.units import about


@click.command("serve", cls=Verb)
@data_option
@listening_options
@click.option(
    "--no-gateway-names",
    is_flag=True,
    help="Do not tell functions the gateway's address: no gateway.openfaas, no OPENFAAS_GATEWAY.",
)
@click.option("--no-basic-auth", is_flag=True, help="No password: anyone who reaches the port may deploy and remove.")
@capacity_options
@stopping_options
@default_options
@click.option(
    "--openfaas-rule",
    is_flag=True,
    help="Scale functions with com.openfaas.scale.min and .max by OpenFaaS's rule, too: above 5 requests a second.",
)
@click.option(
    "--keep-revisions",
    type=Whole(1, MOST_KEPT_REVISIONS),
    default=KEPT_REVISIONS,
    show_default=True,
    help="Revisions kept per function for rollback, including the current one.",
)
@click.option("-d", "--detach", is_flag=True, help="Run in the background; return when the gateway answers.")
@service_options
@json_option
def serve_command(
    data: Path | None,
    listening: Listening,
    no_gateway_names: bool,
    no_basic_auth: bool,
    capacity: Capacity,
    stopping: Stopping,
    openfaas_rule: bool,
    keep_revisions: int,
    detach: bool,
    service: ServiceFlags,
    as_json: bool,
    **defaults: str,
) -> int:
    """Run the platform on this machine."""
    flags = {f"--{name.replace('_', '-')}": value for name, value in defaults.items()}
    settings = local_settings(
        data,
        **listening.settings(),
        **capacity.settings(),
        **stopping.settings(),
        gateway_names=not no_gateway_names,
        basic_auth=not no_basic_auth,
        kept_revisions=keep_revisions,
        limits=platform_limits(flags),
        scaling=platform_scaling(flags, openfaas_rule=openfaas_rule),
    )
    if check_service(service, detach=detach):
        return change_service(service, settings, as_json=as_json)
    if as_json and not detach:
        raise click.UsageError("--json needs --detach: in the foreground the platform prints its log")
    note_start(data)
    if not detach:
        return run_foreground(settings)
    start_background(settings)
    _say_addresses(settings, as_json=as_json)
    return 0


def _say_addresses(settings: Settings, *, as_json: bool) -> None:
    gateway = f"{settings.scheme}://{settings.gateway}"
    if as_json:
        say_json({"gateway": gateway, "metrics": f"http://{settings.metrics}", "data": settings.data})
    else:
        say(gateway)


@click.command("down", cls=Verb)
@data_option
@json_option
def down_command(data: Path | None, as_json: bool) -> int:
    """Stop the local platform.

    Deployed functions are kept for the next start.
    """
    settings = remembered_settings(data)
    stopped = stop(settings)
    if as_json:
        say_json({"stopped": stopped, "data": settings.data})
    elif stopped:
        is_meant = settings.data_path == (data or default_data_dir()).absolute()
        say("Stopped." if is_meant else f"Stopped the platform of {settings.data}.")
    else:
        note(f"No platform runs here{others(settings.data_path)}.")
    return 0 if stopped else 1


@click.command("status", cls=Verb)
@data_option
@gateway_options
@json_option
def status_command(data: Path | None, gateway: str, tls_no_verify: bool, token: str, as_json: bool) -> None:
    """Show the platform's processes and functions."""
    if data is not None and not gateway and local_platform(data) is None:
        raise InvalidInput(f"no platform has run with data directory {data.absolute()}{others(data.absolute())}")
    url = choose_gateway(gateway, data=data)
    with Gateway(url, token=token, tls_no_verify=tls_no_verify, data=data) as opened:
        status = opened.system("GET", "/system/status").json()
    if as_json:
        say_json(status)
    else:
        _show({**status, "gateway": url})


def _show(status: Mapping[str, Any]) -> None:
    processes = status.get("processes") or []
    for key, value in status.items():
        if key == "problems":
            for problem in value:
                say(f"Problem:      {problem}")
        elif key not in ("processes", "cold_starts"):
            say(f"{key + ':':<14}{_text(key, value)}")
    say_cold_starts(status.get("cold_starts") or {})
    if processes:
        say()
        rows = [(p.get("name", ""), p.get("pid", ""), human_size(p.get("memory") or 0)) for p in processes]
        say_columns(("PROCESS", "PID", "MEMORY"), rows)


def _text(key: str, value: object) -> str:
    if key.endswith("_at") and isinstance(value, int | float):  # Unix seconds
        moment = datetime.fromtimestamp(value, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        return f"{moment} ({about(time.time() - value)} ago)"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    return str(value)
