"""`rescoldo diff`: shows the changes that a deployment of stack.yaml would make."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import click

from rescoldo.cli.changes import Change, changed, changes_of
from rescoldo.cli.deployment import digest_of
from rescoldo.cli.flags import Selection
from rescoldo.cli.gateway import Gateway, choose_gateway
from rescoldo.cli.options import Verb, gateway_options, json_option, namespace_option, stack_options
from rescoldo.cli.output import say, say_json
from rescoldo.cli.project import bundle_file, load_project
from rescoldo.model.errors import NotFound, RescoldoError
from rescoldo.model.function import FunctionSpec
from rescoldo.model.names import DEFAULT_NAMESPACE
from rescoldo.stack.file import StackFunction


class Trouble(click.ClickException):
    """Failure of the comparison: exit status 2, since 1 means that there are differences."""

    exit_code = 2


@click.command("diff", cls=Verb)
@stack_options
@gateway_options
@namespace_option
@json_option
def diff_command(
    selection: Selection, gateway: str, tls_no_verify: bool, token: str, namespace: str, as_json: bool
) -> int:
    """Show what a deployment of stack.yaml would change.

    Compares the code of the last `rescoldo build` or `up`, not of the files: build first.

    Exit status 0: no change, 1: changes, 2: the comparison failed.
    """
    try:
        project = load_project(selection)
        url = choose_gateway(gateway, project.gateway)
        with Gateway(url, token=token, tls_no_verify=tls_no_verify) as opened:
            found = [_compared(opened, function, namespace) for function in project.functions]
    except RescoldoError as error:
        raise Trouble(error.message) from error
    if as_json:
        say_json([_to_json(*one) for one in found])
    else:
        for spec, exists, changes in found:
            _show(spec, exists, changes)
    return 1 if any(changes for _, _, changes in found) else 0


def _to_json(spec: FunctionSpec, exists: bool, changes: list[Change]) -> dict[str, Any]:
    shown = [asdict(change) for change in changes]
    return {"name": spec.name, "namespace": spec.namespace, "deployed": exists, "changes": shown}


def _compared(gateway: Gateway, function: StackFunction, namespace: str) -> tuple[FunctionSpec, bool, list[Change]]:
    spec = function.to_spec(namespace)
    own = spec.namespace if spec.namespace != DEFAULT_NAMESPACE else ""
    try:
        status = gateway.system("GET", f"/system/function/{spec.name}", params={"namespace": own}).json()
    except NotFound:
        return spec, False, list(changes_of(spec, {}))
    changes = list(changes_of(spec, status))
    if not function.skip_build:
        changes += _bundle_changes(gateway, spec)
    return spec, True, changes


def _bundle_changes(gateway: Gateway, spec: FunctionSpec) -> Iterator[Change]:
    """Compare the bundle that was built here with the gateway's bundle for the image's name."""
    file = bundle_file(spec.name)
    if not file.is_file():
        return
    try:
        there = gateway.system("GET", "/system/bundles", params={"image": spec.image}).json()
    except NotFound:
        return  # another kind of gateway, with images instead of bundles
    yield from changed("bundle", there[0]["digest"][:12] if there else None, digest_of(file)[:12])


def _show(spec: FunctionSpec, exists: bool, changes: list[Change]) -> None:
    if not changes:
        say(f"= {spec.id}")
        return
    say(f"~ {spec.id}" if exists else f"+ {spec.id} (not deployed)")
    width = max(len(change.field) for change in changes)
    for change in changes:
        before = "(none)" if change.deployed is None else change.deployed
        after = "(none)" if change.wanted is None else change.wanted
        say(f"    {change.field:<{width}}  {before} -> {after}" if exists else f"    {change.field:<{width}}  {after}")
