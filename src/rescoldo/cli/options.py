"""Options that several verbs share, named as faas-cli names them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from functools import wraps
from itertools import pairwise
from pathlib import Path
from typing import Any

import click

from rescoldo.cli.completing import in_the_stack_file, namespaces, secrets, templates
from rescoldo.cli.flags import DeployFlags, Destination, GatewayFlags, Selection
from rescoldo.model.datadir import data_dir

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class Whole(click.IntRange):
    """A whole number in a range, which the error names; click only says that it is no valid integer range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            number = int(value)
        except ValueError:
            number = None
        most = self.max
        if number is None or number < (self.min or 0) or (most is not None and number > most):
            allowed = f"from {self.min} to {most}" if most is not None else f"of {self.min} or more"
            self.fail(f"{str(value)[:80]!r} is not allowed; use a whole number {allowed}", param, ctx)
        return number


class Verb(click.Command):
    """A command that also reads faas-cli's spelling of switches, `--update=false`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        switches = {opt: param for param in self.params if getattr(param, "is_flag", False) for opt in param.opts}
        words = [word for arg in args for word in _spelled(arg, switches)]
        try:
            return super().parse_args(ctx, list(words))
        except click.UsageError as error:
            valued = [f"{one} takes no value; remove {word!r}" for one, word in pairwise(words)
                      if one in switches and word in error.message]  # fmt: skip
            if not valued or "extra argument" not in error.message:
                raise
            raise click.UsageError(valued[0], ctx) from error


def _spelled(arg: str, switches: dict[str, click.Parameter]) -> list[str]:
    name, equals, value = arg.partition("=")
    if not equals or name not in switches or value.lower() not in ("true", "false", "1", "0"):
        return [arg]
    if value.lower() in ("true", "1"):
        return [name]
    return switches[name].secondary_opts[:1]  # no word for a switch that is off by default


def _all(*options: Decorator) -> Decorator:
    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def folded(kind: type[Any], argument: str, *options: Decorator) -> Decorator:
    """Pass the options' values to the verb as one `argument`, an instance of the dataclass `kind`."""
    names = [field.name for field in fields(kind)]

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def fold(*args: Any, **values: Any) -> Any:
            given = {name: values.pop(name) for name in names if name in values}
            return function(*args, **values, **{argument: kind(**given)})

        return _all(*options)(fold)

    return decorate


gateway_options = _all(
    click.option("-g", "--gateway", default="", help="Gateway URL. [$OPENFAAS_URL, stack.yaml, or the local one]"),
    click.option("--tls-no-verify", is_flag=True, help="Do not check the gateway's certificate."),
    click.option("-k", "--token", default="", help="Bearer token to use instead of the saved password."),
)
namespace_option = click.option(
    "-n", "--namespace", default="", help="Namespace of the function.", shell_complete=namespaces
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
data_option = click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=None,
    callback=lambda _context, _option, named: None if named is None else data_dir(named),
    help="Data directory of the local platform. [$RESCOLDO_DATA or ~/.local/share/rescoldo]",
)
metrics_option = click.option(
    "--metrics-address",
    default="127.0.0.1:8082",
    show_default=True,
    metavar="HOST:PORT",
    help="Address of the local platform's /metrics.",
)
yaml_option = click.option(
    "-f", "--yaml", "yaml_file", default="", help="Path or URL of the stack file. [stack.yaml or stack.yml]"
)
connection_options = folded(GatewayFlags, "connection", yaml_option, gateway_options)
_stack_options = (
    yaml_option,
    click.option("--filter", "glob", default="", help="Only functions whose name matches this wildcard."),
    click.option("--regex", default="", help="Only functions whose name matches this regular expression."),
)
_names = click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=in_the_stack_file)
# `remove` takes names of deployed functions, so a shell completes them from the gateway, not from a stack file
unnamed_stack_options = folded(Selection, "selection", *_stack_options)
stack_options = folded(Selection, "selection", _names, *_stack_options)
selection_options = folded(
    Selection,
    "selection",
    _names,
    *_stack_options,
    click.option("--image", default="", help="Image name, without a stack file."),
    click.option("--name", default="", help="Function name, without a stack file."),
    click.option("--lang", default="", help="Template, without a stack file.", shell_complete=templates),
    click.option("--handler", default="", help="Handler folder, without a stack file."),
)
store_options = _all(
    click.option(
        "-u",
        "--url",
        envvar="OPENFAAS_STORE",
        default="https://raw.githubusercontent.com/openfaas/store/master/functions.json",
        help="URL or path of the store. [$OPENFAAS_STORE or the public one]",
    ),
    click.option("-p", "--platform", "architecture", default="", help="x86_64, arm64, armhf … [this machine's]"),
)
no_cache_option = click.option("--no-cache", is_flag=True, help="Install requirements again.")
deploy_options = folded(
    DeployFlags,
    "flags",
    namespace_option,
    click.option("--fprocess", default="", help="Command of the program."),
    click.option("-e", "--env", "env", multiple=True, metavar="KEY=VALUE", help="Environment variable."),
    click.option("-l", "--label", "label", multiple=True, metavar="KEY=VALUE", help="Label."),
    click.option("--annotation", multiple=True, metavar="KEY=VALUE", help="Annotation."),
    click.option("--secret", multiple=True, help="Secret to give the function.", shell_complete=secrets),
    click.option("--constraint", multiple=True, help="Placement constraint."),
    click.option("--memory-limit", default="", help="Memory limit, for example 128Mi."),
    click.option("--cpu-limit", default="", help="Cpu limit, for example 500m."),
    click.option("--memory-request", default="", help="Memory request."),
    click.option("--cpu-request", default="", help="Cpu request."),
    click.option("--readonly", is_flag=True, help="Make the root file system read-only."),
    click.option("--update/--no-update", default=None, help="Update the deployed function. [default]"),
    click.option("--replace/--no-replace", default=False, help="Remove the deployed function first."),
)
parallel_option = click.option(
    "--parallel",
    type=Whole(1, 32),
    default=4,
    show_default=True,
    help="Functions to deploy or remove at the same time.",
)
destination_options = folded(
    Destination,
    "destination",
    gateway_options,
    data_option,
    metrics_option,
    click.option("--no-start", is_flag=True, help="Do not start a local platform."),
)
