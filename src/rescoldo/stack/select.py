"""Which functions of a stack file a command is for: `--filter` or `--regex`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

from rescoldo.model.errors import InvalidInput
from rescoldo.stack.file import StackFunction


def select(functions: Sequence[StackFunction], *, glob: str = "", regex: str = "") -> tuple[StackFunction, ...]:
    """The functions whose names match `glob` (shell wildcards) or contain `regex`; all when neither is given.

    Raises InvalidInput when both are given, the expression is not valid, or nothing matches.
    """
    if glob and regex:
        raise InvalidInput("--filter and --regex cannot be used together; give one of them")
    try:
        pattern = re.compile(regex)
    except re.error as error:
        raise InvalidInput(f"--regex: {regex!r} is not a regular expression: {error}") from error
    chosen = tuple(f for f in functions if (not glob or fnmatchcase(f.name, glob)) and pattern.search(f.name))
    if not functions:
        raise InvalidInput("the stack file has no functions; add one with `rescoldo new NAME --lang LANG`")
    if not chosen:
        names = ", ".join(f.name for f in functions)
        raise InvalidInput(f"no function matches {glob or regex!r}; the file has {names}")
    return chosen
