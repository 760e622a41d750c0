"""`rescoldo deploy` and `rescoldo remove`"""

from __future__ import annotations

from typing import Any

import click

from rescoldo.cli.deployment import deploy, function_url, remove, upload
from rescoldo.cli.gateway import Gateway, choose_gateway
from rescoldo.cli.options import (
    Verb,
    build_options,
    deploy_options,
    gateway_options,
    json_option,
    namespace_option,
    stack_options,
)
from rescoldo.cli.output import note, say, say_json
from rescoldo.cli.project import (
    Project,
    bundle_file,
    from_flags,
    load_project,
    optional_gateway,
    with_flags,
)
from rescoldo.model.errors import NotFound, RescoldoError
from rescoldo.model.names import DEFAULT_NAMESPACE, parse_reference
from rescoldo.stack.file import StackFunction


def apply_flags(function: StackFunction, flags: dict[str, Any]) -> StackFunction:
    """Put `deploy_options` and --namespace over a function of the stack file."""
    return with_flags(
        function,
        limits={"memory": flags["memory_limit"], "cpu": flags["cpu_limit"]},
        requests={"memory": flags["memory_request"], "cpu": flags["cpu_request"]},
        **{
            key: flags[key]
            for key in (
                "namespace",
                "fprocess",
                "env",
                "label",
                "annotation",
                "secret",
                "constraint",
                "readonly",
            )
        },
    )


def deploy_all(gateway: Gateway, project: Project, flags: dict[str, Any], *, as_json: bool) -> None:
    """Upload the bundle of each function where one was built here, and deploy it."""
    if flags["update"] and flags["replace"]:
        raise click.UsageError("--update and --replace exclude each other; give one of them")
    update = flags["update"] is not False and not flags["replace"]
    deployed = []
    for function in project.functions:
        spec = apply_flags(function, flags).to_spec()
        bundle, digest = bundle_file(function.name), ""
        try:
            if bundle.is_file() and not function.skip_build:
                digest = upload(gateway, spec.image, bundle, note)
            deploy(gateway, spec, update=update, replace=flags["replace"])
        except RescoldoError as error:
            raise type(error)(f"{function.name}: {error.message}") from error
        url = function_url(gateway, spec)
        deployed.append({"name": spec.name, "namespace": spec.namespace, "image": spec.image, "url": url})
        deployed[-1] |= {"digest": digest} if digest else {}
        if not as_json:
            say(f"Deployed {spec.name}.\nURL: {url}")
    if as_json:
        say_json(deployed)


@click.command("deploy", cls=Verb)
@stack_options
@build_options
@gateway_options
@namespace_option
@deploy_options
@json_option
def deploy_command(
    yaml_file: str,
    glob: str,
    regex: str,
    image: str,
    name: str,
    lang: str,
    handler: str,
    gateway: str,
    tls_no_verify: bool,
    token: str,
    as_json: bool,
    **flags: Any,
) -> None:
    """Deploy functions from stack.yaml or from flags.

    A bundle that `rescoldo build` left in ./build/NAME is uploaded first.
    """
    project = load_project(yaml_file, glob, regex, from_flags(name, image, lang, handler))
    url = choose_gateway(gateway, project.gateway)
    with Gateway(url, token=token, tls_no_verify=tls_no_verify) as opened:
        deploy_all(opened, project, flags, as_json=as_json)


@click.command("remove", cls=Verb)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@stack_options
@gateway_options
@namespace_option
def remove_command(
    names: tuple[str, ...],
    yaml_file: str,
    glob: str,
    regex: str,
    gateway: str,
    tls_no_verify: bool,
    token: str,
    namespace: str,
) -> None:
    """Remove functions.

    Those named, or all of the stack file.
    """
    if names:
        stack_gateway = optional_gateway(yaml_file, gateway)
        wanted = [parse_reference(name) for name in names]
    else:
        project = load_project(yaml_file, glob, regex)
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
