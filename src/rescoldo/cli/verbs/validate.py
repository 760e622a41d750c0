"""`rescoldo validate`"""

from __future__ import annotations

import os
import re
from pathlib import Path

import click

from rescoldo.bundle.build import check
from rescoldo.cli.options import Verb, json_option, yaml_option
from rescoldo.cli.output import note, say, say_json
from rescoldo.cli.project import build_request, stack_location
from rescoldo.model.errors import InvalidInput, RescoldoError
from rescoldo.model.function import check_spec
from rescoldo.model.program import PROCESS
from rescoldo.stack.file import StackFile, StackFunction, examine_stack
from rescoldo.stack.source import read_source
from rescoldo.stack.templates import find_template

_NO_UPSTREAM = (
    "upstream_url is missing; add it to `environment:`, with where the program listens, for example "
    "http://127.0.0.1:8000"
)
_PLACE = re.compile(r"[^:\n]+:\d+: ")


@click.command("validate", cls=Verb)
@yaml_option
@json_option
def validate_command(yaml_file: str, as_json: bool) -> int:
    """Check stack.yaml and the handlers without building.

    Exit status 1 when anything is wrong; everything that is wrong is said.
    """
    location = stack_location(yaml_file)
    try:
        stack, problems = examine_stack(read_source(location), os.environ)
    except InvalidInput as error:
        stack, problems = None, [error]
    found = [problem.message for problem in problems]
    functions = stack.functions if stack is not None else ()
    for function in functions:
        assert stack is not None
        found += _problems(function, stack)
    if not found and not functions:
        found.append(f"{location}:1: there are no functions; add one with `rescoldo new NAME --lang LANG`")
    if as_json:
        say_json({"file": location, "functions": [function.name for function in functions], "problems": found})
        return 1 if found else 0
    for place in stack.ignored if stack is not None else ():
        note(f"note: {place} has a meaning in container builds only; ignored")
    for problem in found:
        note(problem)
    if not found:
        say(f"{location}: {len(functions)} function{'' if len(functions) == 1 else 's'}, nothing wrong.")
    return 1 if found else 0


def _problems(function: StackFunction, stack: StackFile) -> list[str]:
    """What is wrong with a function beyond its keys: what its labels and limits ask for, and its code."""
    found, is_program = [], False
    try:
        is_program = check_spec(function.to_spec()).program is not None
    except InvalidInput as error:
        found.append(f"{function.place_of(error.message)}: {function.name}: {error.message}")
    # what is missing was said when the file was read
    if not function.skip_build and function.lang and function.handler != Path():
        try:
            check(build_request(function, stack.copy))
            if not (found or is_program) and find_template(function.lang, Path()).style == PROCESS:
                found.append(f"{function.where}: {function.name}: {_NO_UPSTREAM}")
        except RescoldoError as error:
            # a place in the function's own files says more than its place in stack.yaml
            own = _PLACE.match(error.message)
            found.append(error.message if own else f"{function.where}: {function.name}: {error.message}")
    return found
