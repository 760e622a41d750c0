"""Parses the flags of `rescoldo serve` that make a platform a worker of a cluster."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
from click.core import ParameterSource

from rescoldo.cli.options import folded
from rescoldo.cli.serving import check_address
from rescoldo.model.names import DEFAULT_NAMESPACE, check_name
from rescoldo.model.values import seconds

SHORTEST_STALE = 10.0  # seconds; a stream of changes that breaks is noticed after 6
LONGEST_STALE = 365 * 86400.0
_TLS = "its cluster's gateway speaks TLS"
_FOREGROUND = "it runs in the foreground of its container"
# what a worker does instead, by the names of the parameters that it excludes
_INSTEAD = {
    "tls_cert": _TLS,
    "tls_key": _TLS,
    "redirect_address": _TLS,
    "trusted_proxies": "its cluster's gateway decides whose headers to trust",
    "no_basic_auth": "it has no password: its pool's secret lets the cluster's gateways in",
    "no_gateway_names": "without --functions-gateway it shows none to functions",
    "detach": _FOREGROUND,
    "install_service": _FOREGROUND,
    "uninstall_service": _FOREGROUND,
}


@dataclass(frozen=True, slots=True)
class Joining:
    """The cluster whose worker a platform is."""

    join: str | None
    namespace: str
    identity: Path | None
    gateways_tls_address: str | None
    functions_gateway: str | None
    max_stale: str | None
    no_log_functions: bool
    allow_without_landlock: bool

    def settings(self) -> dict[str, Any]:
        """Return the platform's settings of these names, and `basic_auth`; nothing for a platform that is no worker.
        Call this within the command. Raises UsageError, InvalidInput."""
        given = _given()
        if self.join is None:
            for field in fields(self):
                if field.name in given:
                    raise click.UsageError(f"{given[field.name]} needs --join")
            return {}
        for name, instead in _INSTEAD.items():
            if name in given:
                raise click.UsageError(f"{given[name]} is not for a worker (--join): {instead}")
        if self.identity is None:
            raise click.UsageError("--join needs --identity")
        gateway, tls = self.functions_gateway, self.gateways_tls_address
        return {
            "basic_auth": False,
            "join": _url(self.join, "--join", "https"),
            "namespace": check_name(self.namespace, "namespace"),
            "identity": str(self.identity.absolute()),
            "gateways_tls": None if tls is None else check_address(tls, "--gateways-tls-address"),
            "functions_gateway": None if gateway is None else _url(gateway, "--functions-gateway", "http", "https"),
            "max_stale": self._max_stale(),
            "log_functions": not self.no_log_functions,
            "allow_without_landlock": self.allow_without_landlock,
        }

    def _max_stale(self) -> float | None:
        if self.max_stale is None:
            return None
        return seconds({"--max-stale": self.max_stale}, "--max-stale", SHORTEST_STALE, SHORTEST_STALE, LONGEST_STALE)


joining_options = folded(
    Joining,
    "joining",
    click.option(
        "--join",
        metavar="URL",
        help="Be a worker of the cluster whose control has its link here, https://HOST:PORT. Functions, secrets and "
        "counts are control's; calls come from the cluster's gateways. The cluster's manifests set this flag and those "
        "below.",
    ),
    click.option(
        "--namespace",
        default=DEFAULT_NAMESPACE,
        show_default=True,
        help="With --join: the namespace whose functions this worker runs.",
    ),
    click.option(
        "--identity",
        type=click.Path(file_okay=False, path_type=Path),
        help="With --join: folder with tls.crt, tls.key, ca.crt and pool-secret, as control has issued them. Replaced "
        "files are loaded within seconds.",
    ),
    click.option(
        "--gateways-tls-address",
        metavar="HOST:PORT",
        help="With --join: address at which the cluster's gateways may speak TLS, beside --gateway-address. The "
        "certificate is that of --identity.",
    ),
    click.option(
        "--functions-gateway",
        metavar="URL",
        help="With --join: the cluster's gateway, for functions that call others. [functions are shown none]",
    ),
    click.option(
        "--max-stale",
        metavar="DURATION",
        help="With --join: refuse calls with 503 when control has not been heard of for this long. [known functions "
        "are served for as long as control is away]",
    ),
    click.option(
        "--no-log-functions",
        is_flag=True,
        help="With --join: do not print functions' log lines, which a worker writes to its standard output as JSON.",
    ),
    click.option(
        "--allow-without-landlock",
        is_flag=True,
        help="With --join: start even where functions could read this worker's key and each other's files, since the "
        "kernel has no Landlock.",
    ),
)


def _given() -> dict[str, str]:
    """The flags that the user gave, by the names of their parameters."""
    context = click.get_current_context()
    return {
        parameter.name: max(parameter.opts, key=len)
        for parameter in context.command.params
        if parameter.name and context.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE
    }


def _url(text: str, flag: str, *schemes: str) -> str:
    """Return `text`; raise UsageError unless it is SCHEME://HOST or SCHEME://HOST:PORT."""
    try:
        parts = urlsplit(text)
        good = parts.scheme in schemes and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good or parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc:
        raise click.UsageError(f"{flag} {text!r}: write {' or '.join(f'{scheme}://HOST:PORT' for scheme in schemes)}")
    return text.rstrip("/")
