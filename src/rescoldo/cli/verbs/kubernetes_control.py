"""`rescoldo kubernetes control`: a cluster's control, in its pod."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from rescoldo.bundle.builder import BuildLimits
from rescoldo.cli.options import Verb, Whole, data_option, folded
from rescoldo.cli.platform import local_settings
from rescoldo.cli.serving import check_address, default_options
from rescoldo.model.errors import InvalidInput
from rescoldo.model.limits import platform_limits
from rescoldo.model.names import DEFAULT_NAMESPACE, check_name
from rescoldo.model.revision import KEPT_REVISIONS
from rescoldo.model.scaling import platform_scaling
from rescoldo.model.values import seconds

MOST_BUILDS = 12  # control/deploy/builds.py receives no more
LONGEST_BUILD = 86400.0  # seconds


@dataclass(frozen=True, slots=True)
class _Building:
    """How much is built at once, and for how long."""

    builds: int
    build_timeout: str

    def limits(self) -> BuildLimits:
        flag = "--build-timeout"
        return BuildLimits(self.builds, seconds({flag: self.build_timeout}, flag, 900.0, 1.0, LONGEST_BUILD))


@click.command("control", cls=Verb)
@data_option
@click.option("--api-address", default="0.0.0.0:8080", show_default=True, metavar="HOST:PORT", help="For gateways.")
@click.option("--link-address", default="0.0.0.0:8443", show_default=True, metavar="HOST:PORT", help="For workers.")
@click.option("--system-namespace", required=True, metavar="NAMESPACE", help="The namespace of control itself.")
@click.option(
    "--namespace",
    "namespaces",
    multiple=True,
    default=(DEFAULT_NAMESPACE,),
    metavar="NAMESPACE",
    help="A namespace that holds functions; may be given several times.",
)
@click.option("--gateway", required=True, metavar="URL", help="The gateways' Service.")
@click.option(
    "--workers-isolation",
    type=click.Choice(["unprivileged", "full"]),
    default="unprivileged",
    show_default=True,
    help="The level of isolation that the workers are installed with.",
)
@click.option(
    "--kubeconfig", type=click.Path(dir_okay=False, exists=True, path_type=Path), help="Outside of a pod: the cluster."
)
@folded(
    _Building,
    "building",
    click.option("--builds", type=Whole(1, MOST_BUILDS), default=2, show_default=True, help="Build pods at once."),
    click.option(
        "--build-timeout", default="15m", show_default=True, metavar="DURATION", help="Maximum duration of a build."
    ),
)
@default_options
def control_command(
    data: Path | None,
    api_address: str,
    link_address: str,
    system_namespace: str,
    namespaces: tuple[str, ...],
    gateway: str,
    workers_isolation: str,
    kubeconfig: Path | None,
    building: _Building,
    **defaults: str,
) -> int:
    """Run the control of a cluster: the manifests do, in its pod."""
    from rescoldo.assembly.control_process import run
    from rescoldo.cluster.settings import ControlSettings

    flags = {f"--{name.replace('_', '-')}": value for name, value in defaults.items()}
    limits, scaling = platform_limits(flags), platform_scaling(flags)
    platform = local_settings(data, gateway=gateway, limits=limits, scaling=scaling, kept_revisions=KEPT_REVISIONS)
    if not gateway.startswith(("http://", "https://")):
        raise InvalidInput(f"--gateway: {gateway[:80]!r} is no URL; use for example http://rescoldo-gateway.rescoldo.svc")
    for name in (system_namespace, *namespaces):
        check_name(name, "namespace")
    return run(
        ControlSettings(
            platform,
            system=system_namespace,
            namespaces=tuple(dict.fromkeys(namespaces)),
            gateway=gateway,
            api=check_address(api_address, "--api-address"),
            link=check_address(link_address, "--link-address"),
            kubeconfig=kubeconfig,
            isolation=workers_isolation,
            builds=building.limits(),
        )
    )
