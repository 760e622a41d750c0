"""`rescoldo validate`"""

from __future__ import annotations

import os

import click

from rescoldo.cli.checks import problems_of
from rescoldo.cli.notes import folder_notes
from rescoldo.cli.options import Verb, json_option, yaml_option
from rescoldo.cli.output import note, say, say_json
from rescoldo.cli.project import stack_location
from rescoldo.kinds.deployment import notes_of
from rescoldo.model.errors import InvalidInput
from rescoldo.stack.file import StackFunction, examine_stack
from rescoldo.stack.source import read_source


@click.command("validate", cls=Verb)
@yaml_option
@json_option
def validate_command(yaml_file: str, as_json: bool) -> int:
    """Check stack.yaml and the handlers without building.

    Reports every problem; exit status 1 if there is one.
    """
    location = stack_location(yaml_file)
    try:
        stack, problems = examine_stack(read_source(location), os.environ)
    except InvalidInput as error:
        stack, problems = None, [error]
    found = [problem.message for problem in problems]
    functions = stack.functions if stack is not None else ()
    told: list[str] = []
    for function in functions:
        assert stack is not None
        wrong = problems_of(function, stack.copy, stack.templates)
        found += wrong
        told += [f"{function.where}: {function.name}: {text}" for text in (() if wrong else _notes(function))]
    if not found and not functions:
        found.append(f"{location}:1: it has no functions; add one with `rescoldo new NAME --lang LANG`")
    if as_json:
        names = [function.name for function in functions]
        say_json({"file": location, "functions": names, "problems": found, "notes": told})
        return 1 if found else 0
    for place in stack.ignored if stack is not None else ():
        note(f"note: {place} only affects container builds; ignored")
    for text in told:
        note(f"note: {text}")
    for problem in found:
        note(problem)
    if not found:
        say(f"{location}: {len(functions)} function{'' if len(functions) == 1 else 's'}, no problems.")
    return 1 if found else 0


def _notes(function: StackFunction) -> list[str]:
    """Return notes on settings without effect at any level; a deployment reports those that depend on the level."""
    return [*notes_of(function.to_spec(), ""), *(() if function.skip_build else folder_notes(function))]
