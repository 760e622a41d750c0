"""Parses the flags of `rescoldo serve`: addresses, capacity, draining, and defaults for functions without limits of
their own."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from rescoldo.cli.options import Whole, folded, metrics_option
from rescoldo.model.limits import FLAG
from rescoldo.model.settings import MOST_SLOTS, SPARES
from rescoldo.model.units import parse_memory
from rescoldo.model.values import seconds

# flags for functions without limits of their own: the end of the flag's name, its default, its help
_LIMITS = (
    ("memory", "512Mi", "Memory limit of one instance; 0: no limit."),
    ("cpu", "0", "Cpu limit of one instance, for example 500m; 0: no limit."),
    ("timeout", "30s", "Maximum duration of one call."),
    ("concurrency", "32", "Requests that one instance serves at once; 0: unlimited."),
    ("max-queue", "1000", "Maximum queue of a function, in requests."),
    ("max-body", "6Mi", "Maximum size of a request's body."),
    ("max-response", "64Mi", "Maximum size of a response; 0: no limit."),
    ("max-files", "4096", "Maximum open files of one instance."),
    ("log-rate", "256Ki", "Log output kept per second for one instance."),
)
_SCALING = (
    ("max-scale", "20", "Maximum instances of one function."),
    ("utilization", "70", "Target utilization in percent: above it, instances are added."),
    ("window", "60s", "Time over which load is averaged."),
    ("scale-down-delay", "0s", "Delay before surplus instances are removed."),
)


def default_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the flags for default limits and scaling to `command`."""
    for name, default, text in reversed(_LIMITS + _SCALING):
        option = click.option(FLAG + name, default=default, show_default=True, help=text)
        command = option(command)
    return command


@dataclass(frozen=True, slots=True)
class Listening:
    """The addresses of the gateway and the metrics, and the gateway's TLS."""

    host: str
    port: int
    gateway_address: str
    metrics_address: str
    tls_cert: Path | None
    tls_key: Path | None
    redirect_address: str | None
    trusted_proxies: tuple[str, ...]

    def settings(self) -> dict[str, Any]:
        """Return the platform's settings of these names. Raises UsageError."""
        for flag, value in (("--tls-key", self.tls_key), ("--redirect-address", self.redirect_address)):
            if value is not None and self.tls_cert is None:
                raise click.UsageError(f"{flag} needs --tls-cert")
        redirect = self.redirect_address
        return {
            "gateway": check_address(self.gateway_address or f"{self.host}:{self.port}", "--gateway-address"),
            "metrics": check_address(self.metrics_address, "--metrics-address"),
            "tls_cert": None if self.tls_cert is None else str(self.tls_cert.absolute()),
            "tls_key": None if self.tls_key is None else str(self.tls_key.absolute()),
            "redirect": None if redirect is None else check_address(redirect, "--redirect-address"),
            "trusted_proxies": tuple(check_network(text, "--trusted-proxy") for text in self.trusted_proxies),
        }


listening_options = folded(
    Listening,
    "listening",
    click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on."),
    click.option("--port", type=Whole(1, 65535), default=8080, show_default=True, help="Port."),
    click.option("--gateway-address", default="", metavar="HOST:PORT", help="Replaces --host and --port."),
    metrics_option,
    click.option(
        "--tls-cert",
        type=click.Path(dir_okay=False, path_type=Path),
        help="Serve HTTPS with this PEM file: certificate, chain and private key. A renewed file is loaded within "
        "seconds. Needs an installed haproxy.",
    ),
    click.option(
        "--tls-key",
        type=click.Path(dir_okay=False, path_type=Path),
        help="PEM file of the private key, if --tls-cert does not hold it.",
    ),
    click.option(
        "--redirect-address",
        metavar="HOST:PORT",
        help="With --tls-cert: address that redirects plain HTTP to HTTPS, for example 0.0.0.0:80.",
    ),
    click.option(
        "--trusted-proxy",
        "trusted_proxies",
        multiple=True,
        metavar="NETWORK",
        help="Trust X-Forwarded-* headers only from this address or network, for example 10.0.0.0/8; may be given "
        "several times. By default the headers of every client are trusted.",
    ),
)


@dataclass(frozen=True, slots=True)
class Capacity:
    """The platform's capacity, and how long it queues work beyond that capacity."""

    slots: int
    edge_threads: int
    spares: int
    spares_memory: str | None
    queue_timeout: str

    def settings(self) -> dict[str, Any]:
        """Return the platform's settings of these names. Raises InvalidInput."""
        memory = self.spares_memory
        return {
            "slots": self.slots,
            "edge_threads": self.edge_threads,
            "spares": self.spares,
            "spares_memory": None if memory is None else parse_memory(memory, "--spares-memory"),
            "queue_timeout": seconds({"--queue-timeout": self.queue_timeout}, "--queue-timeout", 30.0, 0.01, 3600.0),
        }


capacity_options = folded(
    Capacity,
    "capacity",
    click.option(
        "--slots",
        type=Whole(1, MOST_SLOTS),
        default=1000,
        show_default=True,
        help="Functions that may be awake at once before the edge is reloaded with twice as many.",
    ),
    click.option(
        "--edge-threads",
        type=Whole(1, 64),
        default=1,
        show_default=True,
        help="Threads of HAProxy. One serves about 50,000 requests a second; several may briefly exceed an instance's "
        "or a queue's limit.",
    ),
    click.option(
        "--spares",
        type=Whole(0, 1000),
        default=SPARES,
        show_default=True,
        help="Spare sandboxes for simultaneous wakes, about 5 MB each.",
    ),
    click.option(
        "--spares-memory",
        metavar="SIZE",
        help="Maximum memory of spare sandboxes after bursts of wakes; 0: never more than --spares. [a tenth of the "
        "machine's]",
    ),
    click.option(
        "--queue-timeout", default="30s", show_default=True, help="Maximum time that a request waits for an instance."
    ),
)


LONGEST_DRAIN = 86400.0  # seconds


@dataclass(frozen=True, slots=True)
class Stopping:
    """How the platform drains before it stops."""

    drain: str
    drain_timeout: str | None

    def settings(self) -> dict[str, Any]:
        """Return the platform's settings of these names. Raises InvalidInput, UsageError."""
        drain = seconds({"--drain": self.drain}, "--drain", 0.0, 0.0, LONGEST_DRAIN)
        timeout = None
        if self.drain_timeout is not None:
            if not drain:
                raise click.UsageError("--drain-timeout needs --drain")
            timeout = seconds(
                {"--drain-timeout": self.drain_timeout}, "--drain-timeout", drain, drain, LONGEST_DRAIN
            )
        return {"drain": drain, "drain_timeout": timeout}


stopping_options = folded(
    Stopping,
    "stopping",
    click.option(
        "--drain",
        default="0s",
        show_default=True,
        metavar="DURATION",
        help="On SIGTERM, go on serving for this long while /healthz answers 404, so that load balancers turn away; "
        "then until no call is in flight. 0: stop at once.",
    ),
    click.option(
        "--drain-timeout",
        metavar="DURATION",
        help="Maximum duration of all of that. [--drain and --default-timeout together]",
    ),
)


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
