"""Loads SQL from .sql files: statements by name, and the schema by version."""

from __future__ import annotations

import re
from importlib.resources import files

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def parse_queries(text: str) -> dict[str, str]:
    """Return the statements of `text` by the name in the `-- name: NAME` line above each."""
    parts = _NAME.split(text)
    return {name: statement.strip() for name, statement in zip(parts[1::2], parts[2::2], strict=True)}


def load_queries(subject: str) -> dict[str, str]:
    """Return the statements of `subject`.sql by name."""
    return parse_queries((files(__package__) / f"{subject}.sql").read_text())


def load_schema() -> list[str]:
    """Return the scripts of schema/ in order: the first makes version 1 of an empty database."""
    scripts = {entry.name: entry for entry in (files(__package__) / "schema").iterdir()}
    names = sorted(name for name in scripts if name.endswith(".sql"))
    return [scripts[name].read_text() for name in names]
