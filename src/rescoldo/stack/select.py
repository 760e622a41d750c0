"""Selects the functions of a stack file that a command applies to: by name, `--filter` or `--regex`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

from rescoldo.model.errors import InvalidInput
from rescoldo.stack.file import StackFunction


def select(
    functions: Sequence[StackFunction], *, names: Sequence[str] = (), glob: str = "", regex: str = ""
) -> tuple[StackFunction, ...]:
    """Return the functions in `names`, or those whose names match `glob` (shell wildcards) or contain `regex`.

    Without any of the three, return all functions. Raises InvalidInput if two of them are given, the expression is not
    valid, a name is unknown or nothing matches.
    """
    if (bool(names), bool(glob), bool(regex)).count(True) > 1:
        raise InvalidInput("names, --filter and --regex cannot be used together; give one of them")
    try:
        pattern = re.compile(regex)
    except re.error as error:
        raise InvalidInput(f"--regex: {regex!r} is not a regular expression: {error}") from error
    if not functions:
        raise InvalidInput("the stack file has no functions; add one with `rescoldo new NAME --lang LANG`")
    known = {f.name for f in functions}
    missing = [name for name in names if name not in known]
    chosen = tuple(
        f
        for f in functions
        if (not names or f.name in names) and (not glob or fnmatchcase(f.name, glob)) and pattern.search(f.name)
    )
    if missing or not chosen:
        wanted = ", ".join(repr(name[:80]) for name in missing) if missing else repr(glob or regex)
        raise InvalidInput(f"no function matches {wanted}; the file has {', '.join(f.name for f in functions)}")
    return chosen
