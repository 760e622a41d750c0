"""`rescoldo build`"""

from __future__ import annotations

import click

from rescoldo.cli.building import built
from rescoldo.cli.flags import Selection
from rescoldo.cli.options import Verb, json_option, no_cache_option, selection_options
from rescoldo.cli.output import say_json
from rescoldo.cli.project import load_project
from rescoldo.cli.results import Results, for_each


@click.command("build", cls=Verb)
@selection_options
@no_cache_option
@json_option
@click.option("-q", "--quiet", is_flag=True, help="Print no progress.")
def build_command(selection: Selection, no_cache: bool, as_json: bool, quiet: bool) -> int:
    """Build bundles from stack.yaml or from flags.

    Writes ./build/NAME/bundle.tar.gz. A failed function does not stop the others.
    """
    project = load_project(selection)
    if selection.name and not (selection.lang or selection.handler):
        raise click.UsageError(
            "--name needs --lang and --handler; to select functions of the stack file, give NAMEs alone, or --filter"
        )
    results = Results.of(project.functions)
    for_each(project.functions, "", results, lambda f: built(f, project, fresh=no_cache, quiet=quiet or as_json))
    if as_json:
        say_json({one.pop("name"): one for one in results.to_json()})
        results.summarize(as_json)
        return 1 if results.failed else 0
    return results.show(False) if results.failed or not quiet else 0
