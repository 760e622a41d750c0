"""`rescoldo deploy` and `rescoldo remove`"""

from __future__ import annotations

import sys

import click

from rescoldo.cli.checks import check_gateway, check_project
from rescoldo.cli.completing import functions
from rescoldo.cli.deploying import deploy_all
from rescoldo.cli.deployment import remove
from rescoldo.cli.flags import DeployFlags, Selection
from rescoldo.cli.gateway import Gateway, choose_gateway
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
from rescoldo.cli.project import (
    check_flags,
    load_project,
    optional_gateway,
)
from rescoldo.cli.results import (
    REMOVED,
    Outcome,
    Results,
    for_each_at_once,
)
from rescoldo.cli.target import not_deployed, reference
from rescoldo.model.errors import NotFound, RescoldoError
from rescoldo.model.names import DEFAULT_NAMESPACE


@click.command("deploy", cls=Verb)
@selection_options
@gateway_options
@deploy_options
@parallel_option
@json_option
@click.option("--no-start", is_flag=True, help="Deploy without a trial start.")
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

    Uploads the bundles that `rescoldo build` left in ./build/NAME first. A failed function does not stop the others.
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

    Without a NAME, removes every function of the stack file: asks on a terminal, otherwise needs --all or --yes. A
    missing function does not stop the others.
    """
    names = selection.names
    if names and everything:
        raise click.UsageError("--all excludes NAMEs: it means every function of the stack file")
    if names:
        stack_gateway = optional_gateway(selection.yaml_file, gateway)
        wanted = [reference(name, namespace) for name in names]
    else:
        project = load_project(selection)
        stack_gateway = project.gateway
        # faas-cli's precedence: -n only applies to functions without a namespace of their own
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
    """Ask for confirmation. Raises RescoldoError for a no, UsageError if there is no terminal."""
    if not sys.stdin.isatty():
        raise click.UsageError(
            f"this would remove {', '.join(names)} at {url}; name the functions, or add --all (or --yes)"
        )
    if not click.confirm(f"Remove {', '.join(names)} at {url}?", err=True):
        raise RescoldoError("cancelled; nothing was removed")


def _remove_all(gateway: Gateway, wanted: list[tuple[str, str]], results: Results, parallel: int) -> None:
    def work(key: tuple[str, str]) -> Outcome:
        try:
            remove(gateway, *key)
        except NotFound as error:
            raise not_deployed(*key) from error
        return Outcome(REMOVED)

    for_each_at_once({key: key for key in wanted}, results, work, parallel)
