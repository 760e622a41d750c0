"""`rescoldo down` and `status`: the platform on this machine."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from rescoldo.cli.coldstarts import say_cold_starts
from rescoldo.cli.gateway import Gateway, choose_gateway
from rescoldo.cli.isolation import UNPRIVILEGED, not_protected
from rescoldo.cli.local import local_platform, local_url, others, pool_proof
from rescoldo.cli.options import Verb, data_option, gateway_options, json_option
from rescoldo.cli.output import human_size, note, say, say_columns, say_json
from rescoldo.cli.platform import remembered_settings, stop
from rescoldo.model.errors import InvalidInput
from rescoldo.model.settings import default_data_dir
from rescoldo.model.units import about


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
    proof = pool_proof(data) if url == local_url(data) else {}
    with Gateway(url, token=token, tls_no_verify=tls_no_verify, data=data) as opened:
        status = opened.system("GET", "/system/status", headers=proof).json()
    if as_json:
        say_json(status)
    else:
        _show({**status, "gateway": url})


def _show(status: Mapping[str, Any]) -> None:
    processes = status.get("processes") or []
    isolation = status.get("isolation") or {}
    for key, value in status.items():
        if key == "problems":
            for problem in value:
                say(f"Problem:      {problem}")
        elif key not in ("processes", "cold_starts"):
            say(f"{key + ':':<14}{_text(key, value)}")
        if key == "isolation" and isolation.get("level") == UNPRIVILEGED:
            say(f"{'':<14}{UNPRIVILEGED}: {not_protected(isolation)}")
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
