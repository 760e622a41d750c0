"""`rescoldo deploy` and `rescoldo remove`"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import click

from rescoldo.cli.deployment import deploy, function_url, remove, upload
from rescoldo.cli.gateway import Gateway, choose_gateway
from rescoldo.cli.options import (
    DeployFlags,
    Selection,
    Verb,
    deploy_options,
    gateway_options,
    json_option,
    namespace_option,
    parallel_option,
    selection_options,
    stack_options,
)
from rescoldo.cli.output import note, say, say_json
from rescoldo.cli.project import (
    Project,
    bundle_file,
    load_project,
    optional_gateway,
    with_flags,
)
from rescoldo.model.errors import InvalidInput, NotFound, RescoldoError
from rescoldo.model.names import DEFAULT_NAMESPACE, parse_reference
from rescoldo.stack.file import StackFunction


def deploy_all(
    gateway: Gateway, project: Project, flags: DeployFlags, *, parallel: int, as_json: bool, start: bool = True
) -> None:
    """Upload the bundle of each function where one was built here, and deploy it, `parallel` of them at once.

    They are told in the project's order. When one fails, those not begun by then are left. Raises RescoldoError.
    """
    deployed = []
    with ThreadPoolExecutor(parallel) as pool:
        under_way = [pool.submit(deploy_one, gateway, function, flags, start=start) for function in project.functions]
        try:
            for each in under_way:
                deployed.append(each.result())
                if not as_json:
                    say(f"Deployed {deployed[-1]['name']}.\nURL: {deployed[-1]['url']}")
        finally:
            pool.shutdown(cancel_futures=True)
    if as_json:
        say_json(deployed)


def deploy_one(
    gateway: Gateway, function: StackFunction, flags: DeployFlags, *, start: bool = True
) -> dict[str, str]:
    """Upload the bundle of `function` if one was built here, and deploy it; what a script reads of it."""
    if flags.update and flags.replace:
        raise click.UsageError("--update and --replace exclude each other; give one of them")
    update = flags.update is not False and not flags.replace
    spec = with_flags(function, flags).to_spec()
    bundle, digest = bundle_file(function.name), ""
    try:
        if bundle.is_file() and not function.skip_build:
            digest = upload(gateway, spec.image, bundle, note)
        deploy(gateway, spec, update=update, replace=flags.replace, start=start)
    except RescoldoError as error:
        # what the gateway refuses is written in the stack file
        place = f"{function.place_of(error.message)}: " if isinstance(error, InvalidInput) else ""
        raise type(error)(f"{place}{function.name}: {error.message}") from error
    url = function_url(gateway, spec)
    deployed = {"name": spec.name, "namespace": spec.namespace, "image": spec.image, "url": url}
    return deployed | ({"digest": digest} if digest else {})


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
) -> None:
    """Deploy functions from stack.yaml or from flags.

    A bundle that `rescoldo build` left in ./build/NAME is uploaded first.
    """
    project = load_project(selection)
    url = choose_gateway(gateway, project.gateway)
    with Gateway(url, token=token, tls_no_verify=tls_no_verify) as opened:
        deploy_all(opened, project, flags, parallel=parallel, as_json=as_json, start=not no_start)


@click.command("remove", cls=Verb)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@stack_options
@gateway_options
@namespace_option
def remove_command(
    names: tuple[str, ...],
    selection: Selection,
    gateway: str,
    tls_no_verify: bool,
    token: str,
    namespace: str,
) -> None:
    """Remove functions.

    Those named, or all of the stack file.
    """
    if names:
        stack_gateway = optional_gateway(selection.yaml_file, gateway)
        wanted = [parse_reference(name) for name in names]
    else:
        project = load_project(selection)
        stack_gateway = project.gateway
        wanted = [(f.name, f.namespace or DEFAULT_NAMESPACE) for f in project.functions]
    url = choose_gateway(gateway, stack_gateway)
    with Gateway(url, token=token, tls_no_verify=tls_no_verify) as opened:
        for name, own in wanted:
            place = namespace if namespace and own == DEFAULT_NAMESPACE else own
            try:
                remove(opened, name, place)
            except NotFound as error:
                raise NotFound(f"no existing function to remove: {name}.{place}") from error
            say(f"Removed {name}.")
