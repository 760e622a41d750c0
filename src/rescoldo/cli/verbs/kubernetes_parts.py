"""The programs of a cluster's pods: `rescoldo kubernetes gateway`, `gateway-agent`, `gateway-drain`. The manifests run
them; the help of `rescoldo kubernetes` does not list them."""

from __future__ import annotations

import asyncio
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from rescoldo.cli.options import Verb, Whole, folded
from rescoldo.cli.serving import LONGEST_DRAIN, check_address, check_network
from rescoldo.model.errors import RescoldoError
from rescoldo.model.messages import log_to_stderr
from rescoldo.model.names import check_name
from rescoldo.model.values import seconds

if TYPE_CHECKING:
    from rescoldo.gateway.config import GatewaySettings

MOST_POOLS = 4096
LONGEST_RAMP = 600.0  # seconds
LONGEST_CONNECT = 60.0  # seconds
LONGEST_CALL = 7 * 86400.0  # seconds

folder_option = click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default="/run/rescoldo",
    show_default=True,
    help="Folder that HAProxy and its agent share. It has secrets, so it should be memory.",
)


@click.command("gateway", cls=Verb)
@folder_option
def gateway_command(folder: Path) -> None:
    """Run a gateway's HAProxy, once its agent has written the configuration.

    This process becomes HAProxy. SIGTERM ends it at once: `gateway-drain` comes before. Exit status: HAProxy's own.
    """
    from rescoldo.gateway.main import become_proxy

    settings = _settings(folder)
    # the first process of a container ignores signals that it does not handle; HAProxy handles them itself
    signal.signal(signal.SIGTERM, _leave)
    become_proxy(settings)


def _leave(_: int, __: FrameType | None) -> None:
    sys.exit(0)


@dataclass(frozen=True, slots=True)
class Routing:
    """How a gateway's HAProxy serves."""

    gateway_address: str
    control_address: str
    pools: int
    max_connections: int
    threads: int
    slowstart: str
    connect_timeout: str
    longest_call: str
    trusted_proxies: tuple[str, ...]

    def settings(self, folder: Path) -> GatewaySettings:
        """Return the settings of the gateway in `folder`. Raises InvalidInput, UsageError."""
        from rescoldo.edge.config import HOLD_SECONDS
        from rescoldo.gateway.config import GatewaySettings

        durations = {
            "--slowstart": self.slowstart, "--connect-timeout": self.connect_timeout,
            "--longest-call": self.longest_call,
        }  # fmt: skip
        return GatewaySettings(
            folder=_inner(folder),
            control=check_address(self.control_address, "--control-address"),
            address=check_address(self.gateway_address, "--gateway-address"),
            pools=self.pools,
            slowstart=seconds(durations, "--slowstart", 4.0, 0.1, LONGEST_RAMP),
            connect_timeout=seconds(durations, "--connect-timeout", 0.15, 0.01, LONGEST_CONNECT),
            response_timeout=HOLD_SECONDS + seconds(durations, "--longest-call", 3600.0, 1.0, LONGEST_CALL),
            max_connections=self.max_connections,
            threads=self.threads,
            trusted_proxies=tuple(check_network(text, "--trusted-proxy") for text in self.trusted_proxies),
        )


routing_options = folded(
    Routing,
    "routing",
    click.option(
        "--gateway-address",
        default="0.0.0.0:8080",
        show_default=True,
        metavar="HOST:PORT",
        help="Address to listen on.",
    ),
    click.option("--control-address", required=True, metavar="HOST:PORT", help="Address of control's API."),
    click.option(
        "--pools",
        type=Whole(1, MOST_POOLS),
        default=64,
        show_default=True,
        help="Namespaces with functions, at most.",
    ),
    click.option(
        "--max-connections",
        type=Whole(100, 1_000_000),
        default=10_000,
        show_default=True,
        help="Connections of clients at once; fewer where the container may open fewer files.",
    ),
    click.option("--threads", type=Whole(1, 64), default=1, show_default=True, help="Threads of HAProxy."),
    click.option(
        "--slowstart",
        default="4s",
        show_default=True,
        metavar="DURATION",
        help="Time in which a new worker gets its functions, one after another.",
    ),
    click.option(
        "--connect-timeout",
        default="150ms",
        show_default=True,
        metavar="DURATION",
        help="Duration after which a connection to a worker is given up, its TLS handshake included. Calls in a worker "
        "that is cut off end that much later.",
    ),
    click.option(
        "--longest-call",
        default="1h",
        show_default=True,
        metavar="DURATION",
        help="Duration after which a call is given up, whatever its function's limit is.",
    ),
    click.option(
        "--trusted-proxy",
        "trusted_proxies",
        multiple=True,
        metavar="NETWORK",
        help="Trust X-Forwarded-* headers only from this address or network; may be given several times. By default "
        "the headers of every client are trusted.",
    ),
)


@click.command("gateway-agent", cls=Verb)
@folder_option
@routing_options
@click.option(
    "--namespace",
    "namespaces",
    multiple=True,
    metavar="NAME",
    help="Namespace whose workers are followed; may be given several times. [all namespaces]",
)
@click.option(
    "--secrets",
    type=click.Path(file_okay=False, path_type=Path),
    default="/etc/rescoldo/secrets",
    show_default=True,
    help="Folder with pools/NAMESPACE and control/NAME: what the gateway says to workers, and control to the gateway.",
)
def gateway_agent_command(folder: Path, routing: Routing, namespaces: tuple[str, ...], secrets: Path) -> None:
    """Write the configuration of a gateway's HAProxy, and tell it of the workers' pods.

    The API server is that of the pod, or of $KUBECONFIG. SIGTERM ends the agent; HAProxy goes on.
    """
    settings = routing.settings(folder)
    for namespace in namespaces:
        check_name(namespace, "namespace")
    log_to_stderr("%(levelname)s %(message)s")
    asyncio.run(_follow(settings, secrets, namespaces))


async def _follow(settings: GatewaySettings, secrets: Path, namespaces: tuple[str, ...]) -> None:
    from rescoldo.gateway.main import run_agent
    from rescoldo.kube.client import find_cluster

    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with find_cluster() as cluster:
        await run_agent(settings, cluster, secrets, stop, namespaces=namespaces)


@click.command("gateway-drain", cls=Verb)
@folder_option
@click.option(
    "--drain",
    default="5s",
    show_default=True,
    metavar="DURATION",
    help="Serve on for this long while /healthz answers 404, so that load balancers turn away; then until no call is "
    "at a worker.",
)
@click.option(
    "--drain-timeout", default="60s", show_default=True, metavar="DURATION", help="Maximum duration of all of that."
)
def gateway_drain_command(folder: Path, drain: str, drain_timeout: str) -> int:
    """Take a gateway out of service, before its containers are stopped.

    Both containers run this at once; it returns when no call is left. Exit status: 0, or 1 if calls are cut.
    """
    given = {"--drain": drain, "--drain-timeout": drain_timeout}
    first = seconds(given, "--drain", 5.0, 0.0, LONGEST_DRAIN)
    longest = seconds(given, "--drain-timeout", 60.0, first, LONGEST_DRAIN)
    return 0 if asyncio.run(_drain(_settings(folder), first, longest)) else 1


async def _drain(settings: GatewaySettings, first: float, longest: float) -> bool:
    from rescoldo.edge.admin import AdminSocket
    from rescoldo.gateway.main import drain
    from rescoldo.gateway.proxy import Proxy

    return await drain(Proxy(settings, AdminSocket(settings.admin_socket)), first, longest)


def _settings(folder: Path) -> GatewaySettings:
    """The settings for programs that only need to know where a gateway's files are. Raises RescoldoError."""
    from rescoldo.gateway.config import GatewaySettings

    if not folder.is_dir():
        raise RescoldoError(f"--folder {folder} is not there: mount the volume that HAProxy and its agent share")
    return GatewaySettings(_inner(folder), control="")


def _inner(folder: Path) -> Path:
    """A volume belongs to root, and everybody may write to it: so the files are in a folder below it, which belongs to
    the user of both containers alone."""
    return folder.absolute() / "gateway"
