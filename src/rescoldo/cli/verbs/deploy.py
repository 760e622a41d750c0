"""`rescoldo deploy` and `rescoldo remove`"""

from __future__ import annotations

import sys
from dataclasses import replace

import click

from rescoldo.cli.checks import check_gateway, check_project
from rescoldo.cli.completing import functions
from rescoldo.cli.deployment import PATIENCE, deploy, function_url, remove, upload
from rescoldo.cli.flags import DeployFlags, Selection
from rescoldo.cli.gateway import Gateway, choose_gateway
from rescoldo.cli.notes import tell_notes
from rescoldo.cli.options import (
    Verb,
    deploy_options,
    gateway_options,
    json_option,
    namespace_option,
    parallel_option,
    selection_options,
    unnamed_stack_options,
)
from rescoldo.cli.output import note
from rescoldo.cli.project import (
    Project,
    bundle_file,
    check_flags,
    load_project,
    optional_gateway,
    with_flags,
)
from rescoldo.cli.results import (
    DEPLOYED,
    DEPLOYING,
    REMOVED,
    UNCHANGED,
    Outcome,
    Results,
    for_each_at_once,
    reference_of,
    shown,
)
from rescoldo.cli.verbs.functions import reference
from rescoldo.model.errors import InvalidInput, NotFound, RescoldoError
from rescoldo.model.function import FunctionSpec
from rescoldo.model.names import DEFAULT_NAMESPACE
from rescoldo.stack.file import StackFunction


def deploy_all(
    gateway: Gateway,
    project: Project,
    flags: DeployFlags,
    results: Results,
    *,
    parallel: int,
    start: bool = True,
) -> None:
    """Upload the bundle of each function where one was built here, and deploy it, `parallel` of them at once.

    Those of which `results` knows already are left. Raises GatewayClosed.
    """

    def work(function: StackFunction) -> Outcome:
        return _deployed(gateway, function, flags, start=start)

    functions = {reference_of(function, flags.namespace): function for function in project.functions}
    for_each_at_once(functions, results, work, parallel)


def _deployed(gateway: Gateway, function: StackFunction, flags: DeployFlags, *, start: bool) -> Outcome:
    """Deploy one; UNCHANGED where the gateway says that it gave it no new revision."""
    spec = with_flags(function, flags).to_spec()
    exists, before = _found(gateway, spec) if is_update(flags) else (True, None)
    outcome = deploy_one(gateway, function, flags, exists=exists, start=start)
    if before is not None and before == _found(gateway, spec)[1]:
        return replace(outcome, state=UNCHANGED) if outcome.state == DEPLOYED else outcome
    tell_notes(spec.name, outcome.notes)
    return outcome


def _found(gateway: Gateway, spec: FunctionSpec) -> tuple[bool, int | None]:
    """Whether the function may be there, and its revision; None where the gateway does not tell."""
    own = spec.namespace if spec.namespace != DEFAULT_NAMESPACE else ""
    answer = gateway.system(
        "GET", f"/system/function/{spec.name}", params={"namespace": own}, accept=(200, 202, 404, 400, 500, 502, 503)
    )
    try:
        return answer.status_code != 404, int(answer.json()["revision"])
    except (ValueError, TypeError, KeyError):
        return answer.status_code != 404, None


def is_update(flags: DeployFlags) -> bool:
    """Whether what is deployed is to be updated, and not removed first or left alone."""
    return flags.update is not False and not flags.replace


def deploy_one(
    gateway: Gateway, function: StackFunction, flags: DeployFlags, *, exists: bool = True, start: bool = True
) -> Outcome:
    """Upload the bundle of `function` if one was built here, and deploy it: DEPLOYED, or DEPLOYING where the first
    start takes longer than we wait. Without `exists` there is nothing to update."""
    spec = with_flags(function, flags).to_spec()
    bundle, digest = bundle_file(function.name), ""
    try:
        if bundle.is_file() and not function.skip_build:
            digest = upload(gateway, spec.image, bundle, note)
        accepted = deploy(gateway, spec, update=exists and is_update(flags), replace=flags.replace, start=start)
    except RescoldoError as error:
        # what the gateway refuses is written in the stack file
        place = f"{function.place_of(error.message)}: " if isinstance(error, InvalidInput) else ""
        raise type(error)(f"{place}{function.name}: {error.message}") from error
    url = function_url(gateway, spec)
    data: dict[str, object] = {"name": spec.name, "namespace": spec.namespace, "image": spec.image, "url": url}
    data |= {"digest": digest} if digest else {}
    if not accepted.starting:
        return Outcome(DEPLOYED, url, data, accepted.notes)
    name = shown((spec.name, spec.namespace))
    reason = (
        f"it has not started within {PATIENCE} s, and goes on: wait with `rescoldo ready {name}`, or look with "
        f"`rescoldo describe {name}`"
    )
    return Outcome(DEPLOYING, reason, data | {"reason": reason}, accepted.notes)


@click.command("deploy", cls=Verb)
@selection_options
@gateway_options
@deploy_options
@parallel_option
@json_option
@click.option("--no-start", is_flag=True, help="Deploy without starting an instance to see whether it does.")
def deploy_command(
    selection: Selection,
    gateway: str,
    tls_no_verify: bool,
    token: str,
    flags: DeployFlags,
    parallel: int,
    as_json: bool,
    no_start: bool,
) -> int:
    """Deploy functions from stack.yaml or from flags.

    A bundle that `rescoldo build` left in ./build/NAME is uploaded first. One that is refused stops no other.
    """
    check_flags(flags)
    project = load_project(selection)
    results = Results.of(project.functions, flags.namespace)
    url = choose_gateway(gateway, project.gateway)
    try:
        check_project(project, flags, results, build=False)
        with Gateway(url, token=token, tls_no_verify=tls_no_verify) as opened:
            check_gateway(opened, project, flags, results)
            deploy_all(opened, project, flags, results, parallel=parallel, start=not no_start)
    finally:
        status = results.show(as_json)
    return status


@click.command("remove", cls=Verb)
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=functions)
@unnamed_stack_options
@gateway_options
@namespace_option
@parallel_option
@json_option
@click.option("--all", "everything", is_flag=True, help="Remove all functions of the stack file, or those of --filter.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def remove_command(
    selection: Selection,
    gateway: str,
    tls_no_verify: bool,
    token: str,
    namespace: str,
    parallel: int,
    as_json: bool,
    everything: bool,
    yes: bool,
) -> int:
    """Remove functions.

    Those named. Without a name it asks, on a terminal, whether to remove all of the stack file; elsewhere that wants
    --all or --yes. One that is missing stops no other.
    """
    names = selection.names
    if names and everything:
        raise click.UsageError("--all goes with no NAME: it means every function of the stack file")
    if names:
        stack_gateway = optional_gateway(selection.yaml_file, gateway)
        wanted = [reference(name, namespace) for name in names]
    else:
        project = load_project(selection)
        stack_gateway = project.gateway
        # as before faas-cli's: -n is for functions that name no namespace of their own
        wanted = [(f.name, f.namespace or namespace or DEFAULT_NAMESPACE) for f in project.functions]
    url = choose_gateway(gateway, stack_gateway)
    if not (names or everything or yes):
        _ask([name for name, _ in wanted], url)
    results = Results(wanted)
    try:
        with Gateway(url, token=token, tls_no_verify=tls_no_verify) as opened:
            _remove_all(opened, wanted, results, parallel)
    finally:
        status = results.show(as_json)
    return status


def _ask(names: list[str], url: str) -> None:
    """Raises RescoldoError for a no, UsageError where there is nobody to ask."""
    if not sys.stdin.isatty():
        raise click.UsageError(
            f"this would remove {', '.join(names)} at {url}; name the functions, or add --all (or --yes)"
        )
    if not click.confirm(f"Remove {', '.join(names)} at {url}?", err=True):
        raise RescoldoError("nothing was removed")


def _remove_all(gateway: Gateway, wanted: list[tuple[str, str]], results: Results, parallel: int) -> None:
    def work(key: tuple[str, str]) -> Outcome:
        try:
            remove(gateway, *key)
        except NotFound as error:
            raise NotFound(f"no existing function to remove: {'.'.join(key)}") from error
        return Outcome(REMOVED)

    for_each_at_once({key: key for key in wanted}, results, work, parallel)
