"""`rescoldo kubernetes install`: checks, applies, and tries what it has installed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from rescoldo.cli.cluster import ClusterFlags, cluster_options
from rescoldo.cli.installing import InstallFlags, install_options, patience_option
from rescoldo.cli.options import Verb, folded, json_option
from rescoldo.cli.output import complain, note, say, say_columns, say_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rescoldo.install.applying import Applied
    from rescoldo.install.checking import Check
    from rescoldo.install.values import Values
    from rescoldo.kube.protocol import Cluster


@dataclass(frozen=True, slots=True)
class _Steps:
    """What is done besides applying."""

    dry_run: bool
    no_checks: bool
    probe: bool


_step_options = folded(
    _Steps,
    "steps",
    click.option("--dry-run", is_flag=True, help="Check the cluster and show what would be applied."),
    click.option("--no-checks", is_flag=True, help="Apply even if the cluster lacks something."),
    click.option("--probe/--no-probe", default=True, help="Deploy a function, call it and remove it. [default]"),
)


@click.command("install", cls=Verb)
@install_options
@cluster_options
@_step_options
@patience_option
@json_option
def install_command(flags: InstallFlags, cluster: ClusterFlags, steps: _Steps, timeout: float, as_json: bool) -> int:
    """Install rescoldo in a cluster, or upgrade it.

    Checks what the cluster has first, waits until all parts are ready, and tries a function. Doing it again with
    other flags changes the installation: give all of them each time, or keep them in a --values file.
    """
    values = flags.values()
    values.check()
    checks = _check(cluster, values)
    failed = any(check.verdict == "failed" for check in checks)
    if failed and not (steps.no_checks or steps.dry_run):
        complain("the cluster lacks what rescoldo needs; nothing was changed (--no-checks installs all the same)")
        if as_json:
            say_json(_told(values, checks, []))
        return 1
    applied = _apply(cluster, values, timeout, dry_run=steps.dry_run)
    told = _told(values, checks, applied)
    if not steps.dry_run:
        told |= _try(cluster, values, steps, timeout)
    if as_json:
        say_json(told)
    elif steps.dry_run:
        say_columns(("Object", "State"), [(each.object, each.state) for each in applied])
    else:
        _say_next(told)
    return 1 if failed and steps.dry_run else 0


def _check(cluster: ClusterFlags, values: Values) -> Sequence[Check]:
    from rescoldo.install.checking import check_cluster

    async def work(found: Cluster) -> Sequence[Check]:
        return await check_cluster(found, values)

    checks = cluster.run(work)
    for check in checks:
        note(f"{check.verdict.upper() if check.verdict != 'ok' else 'ok':<8}{check.name}: {check.text}")
    return checks


def _apply(cluster: ClusterFlags, values: Values, timeout: float, *, dry_run: bool) -> Sequence[Applied]:
    from rescoldo.install.applying import Installation

    async def work(found: Cluster) -> Sequence[Applied]:
        installation = Installation(found, values, note, timeout)
        if dry_run:
            return await installation.preview()
        await installation.apply()
        return installation.applied

    return cluster.run(work)


def _try(cluster: ClusterFlags, values: Values, steps: _Steps, timeout: float) -> dict[str, Any]:
    """Reach the gateway, check the password, try a function; save the password if the address lasts."""
    from rescoldo.cli.credentials import save
    from rescoldo.cli.probing import check_login, probe, wait_for_gateway
    from rescoldo.cli.reaching import find_access, reached

    access = find_access(cluster, values.namespace)
    told: dict[str, Any] = {"gateway": None, "username": access.user, "probe": None}
    with reached(cluster, values.namespace, access) as found:
        wait_for_gateway(found.gateway, timeout)
        check_login(found.gateway, timeout)
        note("the gateway answers and takes the password")
        if steps.probe:
            probed = probe(found.gateway)
            note(f"a function was deployed and answered in {probed.milliseconds:.0f} ms from here, and was removed")
            told["probe"] = {"answer": probed.text, "milliseconds": round(probed.milliseconds, 1)}
        if found.lasting:
            save(found.gateway.url, access.user, access.password)
            told["gateway"] = found.gateway.url
    return told


def _told(values: Values, checks: Sequence[Check], applied: Sequence[Applied]) -> dict[str, Any]:
    return {
        "namespace": values.namespace,
        "checks": [{"name": each.name, "verdict": str(each.verdict), "text": each.text} for each in checks],
        "objects": [{"object": each.object, "state": each.state} for each in applied],
    }


def _say_next(told: dict[str, Any]) -> None:
    """Print where the gateway is, and how the other verbs find it."""
    if told["gateway"] is not None:
        say(f"rescoldo is installed in {told['namespace']}; its password is saved. Use it with:")
        say(f"export OPENFAAS_URL={told['gateway']}")
    else:
        say(f"rescoldo is installed in {told['namespace']}. Its gateway has no address outside of the cluster;")
        say("forward a port to it in another terminal, which saves its password meanwhile:")
        say(f"rescoldo kubernetes forward --system-namespace {told['namespace']}")
