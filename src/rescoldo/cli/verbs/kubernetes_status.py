"""`rescoldo kubernetes status` and `forward`: the parts of an installation, and the way to its gateway."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import click

from rescoldo.cli.cluster import ClusterFlags, cluster_options
from rescoldo.cli.installing import system_option
from rescoldo.cli.options import Verb, Whole, json_option
from rescoldo.cli.output import complain, note, say, say_columns, say_json
from rescoldo.model.errors import RescoldoError

if TYPE_CHECKING:
    from rescoldo.install.status import Part
    from rescoldo.kube.protocol import Cluster

AGAIN_SECONDS = 1.0  # before a port is forwarded again whose gateway or connection went


@click.command("status", cls=Verb)
@system_option
@cluster_options
@click.option("--login", is_flag=True, help="Save the gateway's password for rescoldo and faas-cli.")
@json_option
def status_command(system_namespace: str, cluster: ClusterFlags, login: bool, as_json: bool) -> int:
    """Show the parts in a cluster and their problems.

    Exit status: 0 if all parts are ready, else 1.
    """
    from rescoldo.install.status import parts_of

    async def work(found: Cluster) -> tuple[str, list[Part]]:
        return await found.version(), await parts_of(found, system_namespace)

    version, parts = cluster.run(work)
    if not parts:
        raise RescoldoError(f"rescoldo is not installed in namespace {system_namespace}")
    gateway = _login(cluster, system_namespace) if login else None
    ready = all(part.is_ready for part in parts)
    if as_json:
        told = [{**part.to_json(), "problems": list(part.problems)} for part in parts]
        say_json({"kubernetes": version, "ready": ready, "parts": told, "gateway": gateway})
    else:
        _show(version, parts)
        if gateway is not None:
            say(f"export OPENFAAS_URL={gateway}")
    return 0 if ready else 1


@click.command("forward", cls=Verb)
@system_option
@cluster_options
@click.option("--port", type=Whole(1, 65535), default=8080, show_default=True, help="Port of this machine.")
@json_option
def forward_command(system_namespace: str, cluster: ClusterFlags, port: int, as_json: bool) -> None:
    """Reach the gateway at a port of this machine, until Ctrl-C.

    Needs kubectl. The gateway's password is saved for as long as the command runs.
    """
    from rescoldo.cli.credentials import forget, save
    from rescoldo.cli.forwarding import forwarded
    from rescoldo.cli.reaching import find_access

    access = find_access(cluster, system_namespace)
    url = f"http://127.0.0.1:{port}"
    told = False
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))  # ends as Ctrl-C does
    try:
        while True:
            with forwarded(cluster, system_namespace, port) as forward:
                save(url, access.user, access.password)
                if not told and as_json:
                    say_json({"gateway": url, "username": access.user})
                elif not told:
                    say(f"The gateway answers at {url} until Ctrl-C.")
                told = True
                forward.wait()
            note("the connection to the gateway ended; forwarding again")
            time.sleep(AGAIN_SECONDS)
    finally:
        if told:
            forget(url)


def _login(cluster: ClusterFlags, system: str) -> str | None:
    """Save the password for the gateway's own address, and return that; None if it has none from here."""
    from rescoldo.cli.credentials import save
    from rescoldo.cli.reaching import find_access

    access = find_access(cluster, system)
    door = access.open_door()
    if door is None:
        complain("the gateway has no address that leads to it from here; use: rescoldo kubernetes forward")
        return None
    save(door.url, access.user, access.password)
    note(f"saved the password of {access.user} for {door.url} ({door.how})")
    return door.url


def _show(version: str, parts: list[Part]) -> None:
    say(f"Kubernetes {version}")
    rows = [(part.component, part.namespace, f"{part.ready}/{part.wanted}", part.image) for part in parts]
    say_columns(("Part", "Namespace", "Ready", "Image"), rows)
    for problem in (problem for part in parts for problem in part.problems):
        say(f"! {problem}")
