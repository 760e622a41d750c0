"""`rescoldo store`: lists and deploys functions that others published, from any URL or file."""

from __future__ import annotations

from dataclasses import replace

import click

from rescoldo.cli.deploying import deploy_one
from rescoldo.cli.deployment import has_image
from rescoldo.cli.flags import DeployFlags
from rescoldo.cli.gateway import Gateway, choose_gateway
from rescoldo.cli.notes import tell_notes
from rescoldo.cli.options import Verb, deploy_options, gateway_options, json_option, store_options
from rescoldo.cli.output import say, say_columns, say_json
from rescoldo.cli.results import DEPLOYED
from rescoldo.model.errors import UnknownImage
from rescoldo.model.names import check_name
from rescoldo.stack.store import StoreFunction, architecture_here, find, from_store, read_functions

SHOWN = 60  # characters of a description in the list


@click.group("store")
def store_command() -> None:
    """Browse and deploy published functions."""


@store_command.command("list", cls=Verb)
@store_options
@json_option
@click.option("-v", "--verbose", is_flag=True, help="Print whole descriptions, and the image.")
def list_command(url: str, architecture: str, as_json: bool, verbose: bool) -> None:
    """List the functions of a store that run on this kind of machine."""
    chosen = architecture or architecture_here()
    found = [function for function in read_functions(url) if chosen in function.images]
    if as_json:
        say_json([function.model_dump(by_alias=True) for function in found])
        return
    head = ("FUNCTION", "AUTHOR", "DESCRIPTION", *(("IMAGE",) if verbose else ()))
    rows = [(f.name, f.author, _short(f.description, verbose), f.images[chosen])[: len(head)] for f in found]
    say_columns(head, rows)


def _short(text: str, whole: bool) -> str:
    line = " ".join(text.split())
    return line if whole or len(line) <= SHOWN else line[: SHOWN - 1] + "…"


@store_command.command("inspect", cls=Verb)
@click.argument("name")
@store_options
@json_option
def inspect_command(name: str, url: str, architecture: str, as_json: bool) -> None:
    """Show one function of a store in full."""
    found = _find(name, url)
    if as_json:
        say_json(found.model_dump(by_alias=True))
        return
    rows = {
        "Name": found.name,
        "Title": found.title,
        "Description": " ".join(found.description.split()),
        "Author": found.author,
        "Image": found.image(architecture or architecture_here()),
        "For": ", ".join(sorted(found.images)),
        "Process": found.fprocess,
        "Repository": found.repo_url,
    }
    for key, value in rows.items():
        if value:
            say(f"{key + ':':<14}{value}")
    tables = (("Environment", found.environment), ("Labels", found.labels), ("Annotations", found.annotations))
    for title, table in tables:
        for i, (key, value) in enumerate(sorted(table.items())):
            say(f"{'' if i else title + ':':<14}{key}={value}")


@store_command.command("deploy", cls=Verb)
@click.argument("name")
@click.option("--name", "own_name", default="", help="Name to deploy it under. [the store's]")
@store_options
@gateway_options
@deploy_options
@json_option
def deploy_command(
    name: str,
    own_name: str,
    url: str,
    architecture: str,
    gateway: str,
    tls_no_verify: bool,
    token: str,
    flags: DeployFlags,
    as_json: bool,
) -> int:
    """Deploy a function of a store.

    The gateway must know the image: a platform without containers knows the images that were built for it.
    """
    function = from_store(_find(name, url), url, architecture)
    if own_name:
        function = replace(function, name=check_name(own_name))
    with Gateway(choose_gateway(gateway), token=token, tls_no_verify=tls_no_verify) as opened:
        if not has_image(opened, function.image):
            raise UnknownImage(
                f"{name} is the container image {function.image}, which needs a cluster: this platform runs bundles, "
                f"and no bundle has that name. Write the function yourself (`rescoldo new`) with `image: "
                f"{function.image}`, or choose another gateway with --gateway"
            )
        outcome = deploy_one(opened, function, flags)
    tell_notes(function.name, outcome.notes)
    if as_json:
        say_json(outcome.to_json())
    else:
        say(f"{function.name}  {outcome.state}  {outcome.text}")
    return 0 if outcome.state == DEPLOYED else 1


def _find(name: str, url: str) -> StoreFunction:
    return find({function.name: function for function in read_functions(url)}, name, url)
