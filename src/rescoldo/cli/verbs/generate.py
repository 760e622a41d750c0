"""`rescoldo generate`"""

from __future__ import annotations

from dataclasses import replace

import click

from rescoldo.cli.flags import Selection
from rescoldo.cli.options import Verb, json_option, namespace_option, stack_options, store_options
from rescoldo.cli.output import say, say_json
from rescoldo.cli.project import load_project, pairs
from rescoldo.stack.document import dump
from rescoldo.stack.file import StackFunction
from rescoldo.stack.manifests import APIS

DEFAULT_API = "openfaas.com/v1"


@click.command("generate", cls=Verb)
@stack_options
@namespace_option
@click.option("--api", type=click.Choice([*APIS]), default=DEFAULT_API, show_default=True, help="Kind of object.")
@click.option("--annotation", multiple=True, metavar="KEY=VALUE", help="Annotation to add.")
@click.option("--from-store", "--fromstore", default="", metavar="NAME", help="Use this function of the store instead.")
@store_options
@json_option
def generate_command(
    selection: Selection,
    namespace: str,
    api: str,
    annotation: tuple[str, ...],
    from_store: str,
    url: str,
    architecture: str,
    as_json: bool,
) -> None:
    """Print functions as Kubernetes objects in YAML.

    With --json, prints one List, which kubectl accepts, too.
    """
    extra = pairs(annotation, "--annotation")
    if from_store and selection.names:
        raise click.UsageError("--from-store names the function; give no NAME besides")
    functions = (_stored(from_store, url, architecture),) if from_store else load_project(selection).functions
    annotated = [replace(function, annotations={**function.annotations, **extra}) for function in functions]
    objects = [APIS[api](function.to_spec(namespace)) for function in annotated]
    if as_json:
        say_json({"apiVersion": "v1", "kind": "List", "items": objects})
    for each in () if as_json else objects:
        say("---\n" + dump(each).rstrip())


def _stored(name: str, url: str, architecture: str) -> StackFunction:
    from rescoldo.stack.store import find, from_store, read_functions  # takes 0.1 s, and only stores need it

    found = find({function.name: function for function in read_functions(url)}, name, url)
    return from_store(found, url, architecture)
