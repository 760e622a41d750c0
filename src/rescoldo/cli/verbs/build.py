"""`rescoldo build`"""

from __future__ import annotations

import click

from rescoldo.bundle.build import summary
from rescoldo.cli.options import Selection, Verb, json_option, no_cache_option, selection_options
from rescoldo.cli.output import say, say_json
from rescoldo.cli.project import build_all, load_project


@click.command("build", cls=Verb)
@selection_options
@no_cache_option
@json_option
@click.option("-q", "--quiet", is_flag=True, help="Print no progress.")
def build_command(selection: Selection, no_cache: bool, as_json: bool, quiet: bool) -> None:
    """Build bundles from stack.yaml or from flags.

    They are written to ./build/NAME/bundle.tar.gz.
    """
    project = load_project(selection)
    if selection.name and not (selection.lang or selection.handler):
        raise click.UsageError("--name goes with --lang and --handler; to choose from the stack file use --filter")
    built = build_all(project, fresh=no_cache, quiet=quiet or as_json)
    if as_json:
        say_json({name: summary(bundle) for name, bundle in built.items()})
    elif not quiet:
        for bundle in built.values():
            say(str(bundle.path))
