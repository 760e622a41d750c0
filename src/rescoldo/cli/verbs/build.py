"""`rescoldo build`"""

from __future__ import annotations

import click

from rescoldo.bundle.build import summary
from rescoldo.cli.flags import Selection
from rescoldo.cli.notes import folder_notes, tell_notes
from rescoldo.cli.options import Verb, json_option, no_cache_option, selection_options
from rescoldo.cli.output import say_json
from rescoldo.cli.project import FLAGS, Project, build_one, load_project
from rescoldo.cli.results import BUILT, SKIPPED, Outcome, Results, for_each
from rescoldo.stack.file import StackFunction


@click.command("build", cls=Verb)
@selection_options
@no_cache_option
@json_option
@click.option("-q", "--quiet", is_flag=True, help="Print no progress.")
def build_command(selection: Selection, no_cache: bool, as_json: bool, quiet: bool) -> int:
    """Build bundles from stack.yaml or from flags.

    They are written to ./build/NAME/bundle.tar.gz. One that cannot be built stops no other.
    """
    project = load_project(selection)
    if selection.name and not (selection.lang or selection.handler):
        raise click.UsageError(
            "--name goes with --lang and --handler; to choose from the stack file give a NAME alone, or --filter"
        )
    results = Results.of(project.functions)
    for_each(project.functions, "", results, lambda f: built(f, project, fresh=no_cache, quiet=quiet or as_json))
    if as_json:
        say_json({one.pop("name"): one for one in results.to_json()})
        results.summarize(as_json)
        return 1 if results.failed else 0
    return results.show(False) if results.failed or not quiet else 0


def built(function: StackFunction, project: Project, *, fresh: bool, quiet: bool) -> Outcome:
    """Build one function; SKIPPED where it is marked skip_build. Raises BuildFailed."""
    bundle = build_one(function, project, fresh=fresh, quiet=quiet)
    if bundle is not None:
        tell_notes(function.name, folder_notes(function))
        return Outcome(BUILT, str(bundle.path), summary(bundle))
    return Outcome(SKIPPED, "skip_build" if function.where != FLAGS else "nothing to build")
