"""Builds one function for `rescoldo build` and `rescoldo up`."""

from __future__ import annotations

from rescoldo.bundle.build import summary
from rescoldo.cli.notes import folder_notes, tell_notes
from rescoldo.cli.project import FLAGS, Project, build_one
from rescoldo.cli.results import BUILT, SKIPPED, Outcome
from rescoldo.stack.file import StackFunction


def built(function: StackFunction, project: Project, *, fresh: bool, quiet: bool) -> Outcome:
    """Build one function; SKIPPED if it is marked skip_build. Raises BuildFailed or InvalidInput."""
    bundle = build_one(function, project, fresh=fresh, quiet=quiet)
    if bundle is not None:
        tell_notes(function.name, folder_notes(function))
        return Outcome(BUILT, str(bundle.path), summary(bundle))
    return Outcome(SKIPPED, "skip_build" if function.where != FLAGS else "nothing to build")
