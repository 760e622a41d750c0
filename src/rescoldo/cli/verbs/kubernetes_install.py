"""`rescoldo kubernetes install`, `uninstall` and `status`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from rescoldo.cli.cluster import ClusterFlags, cluster_options
from rescoldo.cli.installing import InstallFlags, install_options
from rescoldo.cli.options import Verb, json_option
from rescoldo.cli.output import note, say_columns, say_json
from rescoldo.model.values import seconds

if TYPE_CHECKING:
    from rescoldo.install.applying import Applied
    from rescoldo.kube.protocol import Cluster

LONGEST_WAIT = 3600.0  # seconds


@click.command("install", cls=Verb)
@install_options
@cluster_options
@click.option("--timeout", default="5m", show_default=True, metavar="DURATION", help="Maximum wait for each part.")
@click.option("--dry-run", is_flag=True, help="Check the cluster and show what would be applied.")
@json_option
def install_command(flags: InstallFlags, cluster: ClusterFlags, timeout: str, dry_run: bool, as_json: bool) -> None:
    """Install rescoldo in a cluster, or upgrade it."""
    from rescoldo.install.applying import Installation

    values = flags.values()
    values.check()
    patience = seconds({"--timeout": timeout}, "--timeout", 300.0, 1.0, LONGEST_WAIT)

    async def work(found: Cluster) -> Sequence[Applied]:
        installation = Installation(found, values, note, patience)
        if dry_run:
            return await installation.preview()
        await installation.apply()
        return installation.applied

    applied = cluster.run(work)
    if as_json:
        say_json({"namespace": values.namespace, "objects": [{"object": a.object, "state": a.state} for a in applied]})
    else:
        say_columns(("Object", "State"), [(each.object, each.state) for each in applied])
