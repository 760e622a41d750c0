"""`rescoldo kubernetes uninstall`: removes an installation, after a yes."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from rescoldo.cli.cluster import ClusterFlags, cluster_options
from rescoldo.cli.installing import patience_option, system_option
from rescoldo.cli.options import Verb, folded, json_option
from rescoldo.cli.output import note, say, say_columns, say_json

if TYPE_CHECKING:
    from rescoldo.install.reaching import Door
    from rescoldo.install.removing import Plan, Removal
    from rescoldo.kube.protocol import Cluster


@dataclass(frozen=True, slots=True)
class _Keep:
    """What stays, and whether to ask."""

    keep_functions: bool
    keep_data: bool
    yes: bool


_keep_options = folded(
    _Keep,
    "keep",
    click.option("--keep-functions", is_flag=True, help="Keep functions, their kind and their secrets."),
    click.option("--keep-data", is_flag=True, help="Keep the volume with bundles and counts."),
    click.option("-y", "--yes", is_flag=True, help="Do not ask."),
)


@click.command("uninstall", cls=Verb)
@system_option
@cluster_options
@_keep_options
@patience_option
@json_option
def uninstall_command(system_namespace: str, cluster: ClusterFlags, keep: _Keep, timeout: float, as_json: bool) -> int:
    """Remove rescoldo from a cluster.

    Removes what it installed, its functions and their secrets, and the namespaces that it created unless somebody
    else uses them. Shows all of it and asks first.
    """
    from rescoldo.install.kinds import said
    from rescoldo.install.removing import Keeping, Removal

    keeping = Keeping(functions=keep.keep_functions, data=keep.keep_data)

    def removal(found: Cluster) -> Removal:
        return Removal(found, system_namespace, keeping, note, timeout)

    async def look(found: Cluster) -> tuple[Plan, list[Door]]:
        from rescoldo.install.reaching import find_doors

        return await removal(found).plan(), await find_doors(found, system_namespace)

    plan, doors = cluster.run(look)
    doomed = [said(obj) for _, obj in plan.deleted]
    if not doomed:
        note(f"nothing of an installation in {system_namespace} was found")
    elif not _agreed(keep, doomed, plan.kept, as_json=as_json):
        return 1
    cluster.run(lambda found: removal(found).run(plan))
    _forget(doors)
    if as_json:
        say_json({"namespace": system_namespace, "deleted": doomed, "kept": plan.kept})
    elif doomed:
        say(f"Removed rescoldo from {system_namespace}.")
    return 0


def _agreed(keep: _Keep, doomed: list[str], kept: list[str], *, as_json: bool) -> bool:
    if keep.yes:
        return True
    if as_json or not sys.stdin.isatty():
        raise click.UsageError("nobody can be asked here; give --yes")
    say_columns(("Will be deleted",), [(each,) for each in doomed])
    if kept:
        say()
        say_columns(("Will be kept",), [(each,) for each in kept])
    return click.confirm(f"Delete these {len(doomed)} objects?", err=True)


def _forget(doors: list[Door]) -> None:
    """Forget the passwords of addresses that no longer lead there."""
    from rescoldo.cli.credentials import forget

    for door in doors:
        forget(door.url)
