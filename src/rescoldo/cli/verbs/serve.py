"""`rescoldo serve`: the platform on this machine. It imports nothing that speaks HTTP, which would take 0.1 s."""

from __future__ import annotations

from pathlib import Path

import click

from rescoldo.cli.joining import Joining, joining_options
from rescoldo.cli.local import note_start
from rescoldo.cli.options import Verb, Whole, data_option, json_option
from rescoldo.cli.output import say, say_json
from rescoldo.cli.platform import local_settings, run_foreground, start_background
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
from rescoldo.model.limits import platform_limits
from rescoldo.model.revision import KEPT_REVISIONS, MOST_KEPT_REVISIONS
from rescoldo.model.scaling import platform_scaling
from rescoldo.model.settings import Settings


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
@joining_options
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
    joining: Joining,
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
        **{"basic_auth": not no_basic_auth, **joining.settings()},
        gateway_names=not no_gateway_names,
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
