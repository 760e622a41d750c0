"""`rescoldo serve`, `down` and `status`: the platform on this machine."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from rescoldo.cli.coldstarts import say_cold_starts
from rescoldo.cli.gateway import Gateway, choose_gateway
from rescoldo.cli.local import local_platform, note_start, others
from rescoldo.cli.options import Verb, data_option, gateway_options, json_option, metrics_option
from rescoldo.cli.output import human_size, note, say, say_columns, say_json
from rescoldo.cli.platform import local_settings, remembered_settings, run_foreground, start_background, stop
from rescoldo.cli.service import ServiceFlags, change_service, check_service, service_options
from rescoldo.model.errors import InvalidInput
from rescoldo.model.limits import FLAG, platform_limits
from rescoldo.model.revision import KEPT_REVISIONS, MOST_KEPT_REVISIONS
from rescoldo.model.scaling import platform_scaling
from rescoldo.model.settings import MOST_SLOTS, SPARES, default_data_dir
from rescoldo.model.units import about, parse_memory
from rescoldo.model.values import seconds

# what functions that set none are given: the end of its flag, its default, what it is
_LIMITS = (
    ("memory", "512Mi", "Memory of one instance; 0: no limit."),
    ("cpu", "0", "Cpu of one instance, for example 500m; 0: no limit."),
    ("timeout", "30s", "How long one call may take."),
    ("concurrency", "32", "Requests in one instance at once; 0: unlimited."),
    ("max-queue", "1000", "Requests that wait for a function's instances."),
    ("max-body", "6Mi", "Body of one request."),
    ("max-response", "64Mi", "One answer; 0: no limit."),
    ("max-files", "4096", "Open files of one instance."),
    ("log-rate", "256Ki", "What is kept a second of what one instance prints."),
)
_SCALING = (
    ("max-scale", "20", "Instances of one function."),
    ("utilization", "70", "Percent of what one instance takes that is used before there is another."),
    ("window", "60s", "Time over which load is averaged."),
    ("scale-down-delay", "0s", "How long fewer instances must have been enough."),
)


def default_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The flags that set limits and scaling for functions that set none."""
    for name, default, text in reversed(_LIMITS + _SCALING):
        option = click.option(FLAG + name, default=default, show_default=True, help=text)
        command = option(command)
    return command


@click.command("serve", cls=Verb)
@data_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(1, 65535), default=8080, show_default=True, help="Port.")
@click.option("--gateway-address", default="", metavar="HOST:PORT", help="Instead of --host and --port.")
@metrics_option
@click.option(
    "--tls-cert",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Speak HTTPS, with the certificate in this PEM file, those it depends on and its private key. A file that is "
    "replaced is taken over within seconds. Needs a HAProxy of this machine's own.",
)
@click.option(
    "--tls-key",
    type=click.Path(dir_okay=False, path_type=Path),
    help="PEM file of the private key, where it is not in that of --tls-cert.",
)
@click.option(
    "--redirect-address",
    metavar="HOST:PORT",
    help="With --tls-cert: where plain HTTP is sent on to the gateway, for example 0.0.0.0:80.",
)
@click.option(
    "--trusted-proxy",
    "trusted_proxies",
    multiple=True,
    metavar="NETWORK",
    help="Address or network of a proxy in front, for example 10.0.0.0/8, whose X-Forwarded-* headers are believed; "
    "may be given several times. Without it everybody's are.",
)
@click.option(
    "--no-gateway-names",
    is_flag=True,
    help="Do not show functions where the gateway is: no gateway.openfaas, no OPENFAAS_GATEWAY.",
)
@click.option("--no-basic-auth", is_flag=True, help="Let anyone who reaches the port deploy and remove.")
@click.option(
    "--slots",
    type=click.IntRange(1, MOST_SLOTS),
    default=1000,
    show_default=True,
    help="Functions that may be awake at once before the edge is reloaded with twice as many.",
)
@click.option(
    "--edge-threads",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Of HAProxy: more take more than about 50,000 requests a second, and may pass an instance or a queue more "
    "than its limit for a moment.",
)
@click.option(
    "--spares",
    type=click.IntRange(0, 1000),
    default=SPARES,
    show_default=True,
    help="Sandboxes made in advance, about 5 MB each: wakes that come together find one.",
)
@click.option(
    "--spares-memory",
    metavar="SIZE",
    help="Memory that sandboxes made in advance may hold after bursts of wakes, at most; a tenth of the machine's "
    "where it is not said. 0: there are never more than --spares.",
)
@click.option("--queue-timeout", default="30s", show_default=True, help="How long a request may wait for an instance.")
@default_options
@click.option(
    "--openfaas-rule",
    is_flag=True,
    help="Scale functions with com.openfaas.scale.min and .max also as OpenFaaS does: above 5 requests a second.",
)
@click.option(
    "--keep-revisions",
    type=click.IntRange(1, MOST_KEPT_REVISIONS),
    default=KEPT_REVISIONS,
    show_default=True,
    help="Of each function, the current one included: those that can be rolled back to.",
)
@click.option("-d", "--detach", is_flag=True, help="Run in the background; return when it answers.")
@service_options
@json_option
def serve_command(
    data: Path | None,
    host: str,
    port: int,
    gateway_address: str,
    metrics_address: str,
    tls_cert: Path | None,
    tls_key: Path | None,
    redirect_address: str | None,
    trusted_proxies: tuple[str, ...],
    no_gateway_names: bool,
    no_basic_auth: bool,
    slots: int,
    edge_threads: int,
    spares: int,
    spares_memory: str | None,
    queue_timeout: str,
    openfaas_rule: bool,
    keep_revisions: int,
    detach: bool,
    service: ServiceFlags,
    as_json: bool,
    **defaults: str,
) -> int:
    """Run the platform on this machine."""
    for flag, value in (("--tls-key", tls_key), ("--redirect-address", redirect_address)):
        if value is not None and tls_cert is None:
            raise click.UsageError(f"{flag} goes with --tls-cert")
    flags = {f"--{name.replace('_', '-')}": value for name, value in defaults.items()}
    settings = local_settings(
        data,
        gateway=check_address(gateway_address or f"{host}:{port}", "--gateway-address"),
        metrics=check_address(metrics_address, "--metrics-address"),
        tls_cert=None if tls_cert is None else str(tls_cert.absolute()),
        tls_key=None if tls_key is None else str(tls_key.absolute()),
        redirect=None if redirect_address is None else check_address(redirect_address, "--redirect-address"),
        trusted_proxies=tuple(check_network(text, "--trusted-proxy") for text in trusted_proxies),
        gateway_names=not no_gateway_names,
        basic_auth=not no_basic_auth,
        slots=slots,
        edge_threads=edge_threads,
        spares=spares,
        spares_memory=None if spares_memory is None else parse_memory(spares_memory, "--spares-memory"),
        queue_timeout=seconds({"--queue-timeout": queue_timeout}, "--queue-timeout", 30.0, 0.01, 3600.0),
        kept_revisions=keep_revisions,
        limits=platform_limits(flags),
        scaling=platform_scaling(flags, openfaas_rule=openfaas_rule),
    )
    if check_service(service, detach=detach):
        return change_service(service, settings, as_json=as_json)
    if as_json and not detach:
        raise click.UsageError("--json goes with --detach: in the foreground the platform's own log is what is printed")
    note_start(data)
    if not detach:
        return run_foreground(settings)
    start_background(settings)
    if as_json:
        addresses = {"gateway": f"{settings.scheme}://{settings.gateway}", "metrics": f"http://{settings.metrics}"}
        say_json({**addresses, "data": settings.data})
    else:
        say(f"{settings.scheme}://{settings.gateway}")
    return 0


def check_address(text: str, flag: str) -> str:
    """Return `text`; raise UsageError unless it is HOST:PORT."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise click.UsageError(f"{flag} {text!r}: write HOST:PORT, for example 127.0.0.1:8080")
    return text


def check_network(text: str, flag: str) -> str:
    """Return `text` as a network; raise UsageError unless it is an address or one."""
    try:
        return str(ipaddress.ip_network(text))
    except ValueError as error:
        raise click.UsageError(
            f"{flag} {text!r}: write an address or a network, for example 10.1.2.3 or 10.0.0.0/8 ({error})"
        ) from error


@click.command("down", cls=Verb)
@data_option
@json_option
def down_command(data: Path | None, as_json: bool) -> int:
    """Stop the local platform.

    What is deployed stays deployed for the next start.
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
        raise InvalidInput(f"no platform has run with data folder {data.absolute()}{others(data.absolute())}")
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
