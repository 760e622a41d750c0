"""`rescoldo up`: from a handler to a URL in one command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn
from urllib.parse import urlsplit

import click
from click.core import ParameterSource

from rescoldo.cli.building import built
from rescoldo.cli.checks import check_gateway, check_project
from rescoldo.cli.credentials import is_loopback
from rescoldo.cli.deploying import deploy_all
from rescoldo.cli.flags import DeployFlags, Destination, Selection
from rescoldo.cli.gateway import Gateway, choose_gateway
from rescoldo.cli.local import check_owner, note_start
from rescoldo.cli.options import (
    Verb,
    deploy_options,
    destination_options,
    json_option,
    no_cache_option,
    parallel_option,
    selection_options,
)
from rescoldo.cli.output import note
from rescoldo.cli.platform import abandoned, remembered_settings, start_background
from rescoldo.cli.project import FLAGS, Project, check_flags, load_project
from rescoldo.cli.results import SKIPPED, Results, reference_of
from rescoldo.cli.serving import check_address
from rescoldo.cli.watched import Report, WatchedDeployments
from rescoldo.model.errors import InvalidInput, RescoldoError


@click.command("up", cls=Verb)
@selection_options
@destination_options
@deploy_options
@no_cache_option
@parallel_option
@json_option
@click.option("--watch", is_flag=True, help="Keep running; deploy again when a file is saved.")
@click.option("--skip-push", is_flag=True, help="Accepted for faas-cli's sake; there is no registry to push to.")
@click.option("--skip-build", is_flag=True, help="Deploy the bundles of the last build.")
@click.option("--skip-deploy", is_flag=True, help="Build only.")
def up_command(
    selection: Selection,
    destination: Destination,
    flags: DeployFlags,
    no_cache: bool,
    parallel: int,
    as_json: bool,
    watch: bool,
    skip_push: bool,
    skip_build: bool,
    skip_deploy: bool,
) -> int:
    """Build, upload and deploy; start a local platform if none runs.

    A failed function does not stop the others. An unchanged function keeps its revision.
    """
    if watch and (skip_build or skip_deploy):
        raise click.UsageError("--watch builds and deploys: it excludes --skip-build and --skip-deploy")
    if skip_build and skip_deploy:
        raise click.UsageError("--skip-build and --skip-deploy leave nothing to do; give one of them")
    check_flags(flags)
    if watch:
        watch_project(selection, destination, flags, fresh=no_cache, as_json=as_json)
    project = load_project(selection)
    results = Results.of(project.functions, flags.namespace)
    try:
        check_project(project, flags, results, build=not skip_build)
        asked = not skip_deploy and _check_before(destination, project, flags, results)
        if not skip_build:
            _build_all(project, flags, results, fresh=no_cache, only=skip_deploy)
        if not skip_deploy and results.open:
            with open_platform(destination, project) as gateway:
                if not asked:
                    check_gateway(gateway, project, flags, results)
                deploy_all(gateway, project, flags, results, parallel=parallel)
    finally:
        status = results.show(as_json)
    return status


def _check_before(destination: Destination, project: Project, flags: DeployFlags, results: Results) -> bool:
    """Check the functions against the gateway before anything is built; return False if no gateway answers yet."""
    with _opened(destination, choose_gateway(destination.gateway, project.gateway, destination.data)) as gateway:
        if not gateway.answers():
            return False
        check_gateway(gateway, project, flags, results)
        return True


def _build_all(project: Project, flags: DeployFlags, results: Results, *, fresh: bool, only: bool) -> None:
    """Build the functions without an outcome. A build is an outcome only if nothing will be deployed (`only`)."""
    for function in project.functions:
        key = reference_of(function, flags.namespace)
        if not results.is_open(key):
            continue
        try:
            outcome = built(function, project, fresh=fresh, quiet=False)
        except RescoldoError as error:
            results.fail(key, error)
            continue
        if only:
            results.add(key, outcome)
        elif outcome.state == SKIPPED and function.where != FLAGS:
            note(f"{function.name}: skip_build, not built")


@click.command("watch", cls=Verb)
@selection_options
@destination_options
@deploy_options
@no_cache_option
@json_option
def watch_command(
    selection: Selection, destination: Destination, flags: DeployFlags, no_cache: bool, as_json: bool
) -> None:
    """Build and deploy each time a file is saved.

    Works as `rescoldo up` and keeps running until interrupted. Reports functions that fail to build or start; their
    previous revision keeps serving.
    """
    check_flags(flags)
    watch_project(selection, destination, flags, fresh=no_cache, as_json=as_json)


def watch_project(
    selection: Selection, destination: Destination, flags: DeployFlags, *, fresh: bool, as_json: bool
) -> NoReturn:
    """Deploy a project, then deploy each saved function again; ends with KeyboardInterrupt."""
    from rescoldo.cli.watching import saves  # a compiled library that only this verb needs

    project = load_project(selection)
    report = Report(as_json)
    with open_platform(destination, project) as gateway:
        rollout = WatchedDeployments(gateway, flags, report, fresh=fresh)
        events = saves(project, project.folder)
        next(events)  # the watch starts here, so that saves during the first build count
        rollout.first(project)
        report.watching(project)
        while True:
            saved = next(events)
            if saved is None:
                continue
            changed = saved.functions(project)
            if saved.stack:
                before, project = project, _read_again(selection, project, rollout)
                changed += [f for f in project.functions if f not in before.functions and f not in changed]
                if before.places != project.places:
                    events = saves(project, project.folder)
                    next(events)
            rollout.again(project, [f for f in project.functions if f in changed], saved.at)


def _read_again(selection: Selection, project: Project, rollout: WatchedDeployments) -> Project:
    """Read the project again; return the old one if its stack file is broken, or gone: some editors move it away before
    they write it anew."""
    try:
        return load_project(selection)
    except RescoldoError as error:
        reason = error
    except click.UsageError as error:  # there is no stack file
        reason = InvalidInput(error.format_message())
    rollout.refused(", ".join(function.name for function in project.functions), reason)
    return project


@contextmanager
def open_platform(destination: Destination, project: Project) -> Iterator[Gateway]:
    """Connect to the gateway to deploy to. Start a local platform if the gateway is this machine's and none
    answers, or if the one that answers has lost its supervisor."""
    data = destination.data
    url = choose_gateway(destination.gateway, project.gateway, data)
    metrics = check_address(destination.metrics_address, "--metrics-address")
    context = click.get_current_context()
    chosen = context.get_parameter_source("metrics_address") is not ParameterSource.DEFAULT
    local = remembered_settings(data, gateway=_address(url), metrics=metrics if chosen else None)
    if urlsplit(url).scheme == local.scheme and is_loopback(url) and not destination.no_start:
        with _opened(destination, url) as gateway:
            answers = gateway.answers()
        if answers:
            check_owner(local, url)
        if not answers or abandoned(local):
            note(f"starting a local platform at {url}")
            note_start(data)
            start_background(local)
    with _opened(destination, url) as gateway:  # connect again: a new platform has written its certificate by now
        yield gateway


def _opened(destination: Destination, url: str) -> Gateway:
    return Gateway(
        url, token=destination.token, tls_no_verify=destination.tls_no_verify, data=destination.data
    )


def _address(url: str) -> str:
    parts = urlsplit(url)
    host = "127.0.0.1" if parts.hostname == "localhost" else parts.hostname
    return f"{f'[{host}]' if ':' in str(host) else host}:{parts.port or (443 if parts.scheme == 'https' else 80)}"
