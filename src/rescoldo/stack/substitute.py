"""`${VAR}` and `${VAR:-default}` in a stack file, before YAML reads it (contracts/openfaas.md)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from rescoldo.model.errors import InvalidInput

_EXPRESSION = re.compile(r"\$\{([^}\n]*)(\}?)")
_FORM = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?")


def substitute(text: str, environment: Mapping[str, str], name: str) -> tuple[str, tuple[int, ...]]:
    """Return `text` with its variables replaced, and for each of its lines the line it came from (from 1).

    A variable that is not set is empty; `:-default` stands in for one that is not set or empty. Lines that
    are comments stay as they are. Raises InvalidInput for any other form, naming `name` and the line.
    """
    lines: list[str] = []
    origins: list[int] = []
    for number, line in enumerate(text.splitlines(), start=1):
        new = line if line.lstrip().startswith("#") else _line(line, environment, f"{name}:{number}")
        # a value may hold line breaks: all its lines came from this one
        parts = new.splitlines() or [""]
        lines += parts
        origins += [number] * len(parts)
    return "\n".join(lines) + "\n", tuple(origins)


def _line(line: str, environment: Mapping[str, str], where: str) -> str:
    def value(match: re.Match[str]) -> str:
        form = _FORM.fullmatch(match[1])
        if form is None or not match[2] or "${" in (form[2] or ""):
            raise InvalidInput(
                f"{where}: {match[0]!r} is not a substitution known here; "
                "write ${NAME} or ${NAME:-default}, and no variable inside a default"
            )
        return environment.get(form[1], "") or form[2] or ""

    return _EXPRESSION.sub(value, line)
