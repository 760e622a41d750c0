"""Describes pydantic's validation errors in our own words, because pydantic's change from version to version.

Pydantic promises to keep its error types and their contexts, so our words depend on these. A description never repeats
the value, which may be secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

_WORDS = {
    "missing": "is missing",
    "string_type": "expected text",
    "string_unicode": "expected text in UTF-8",
    "int_type": "expected a whole number",
    "int_parsing": "expected a whole number",
    "int_parsing_size": "expected a whole number of fewer digits",
    "int_from_float": "expected a whole number",
    "float_type": "expected a number",
    "float_parsing": "expected a number",
    "bool_type": "expected true or false",
    "bool_parsing": "expected true or false",
    "list_type": "expected a list",
    "dict_type": "expected an object",
    "model_type": "expected an object",
    "model_attributes_type": "expected an object",
    "greater_than_equal": "expected at least {ge}",
    "less_than_equal": "expected at most {le}",
    "too_long": "has more than the {max_length} entries allowed",
    "json_invalid": "not valid JSON",
}
_POSITION = re.compile(r"line \d+ column \d+")


def describe(errors: Iterable[Mapping[str, Any]]) -> str:
    """Return one line for pydantic's `ValidationError.errors()`: `place: problem`, separated by `; `."""
    return "; ".join(_violation(error) for error in errors)


def _violation(error: Mapping[str, Any]) -> str:
    place = ".".join(map(str, error["loc"]))
    return f"{place}: {_words(error)}" if place else _words(error)


def _words(error: Mapping[str, Any]) -> str:
    context = error.get("ctx", {})
    words = _WORDS.get(error["type"])
    if words is None:
        return str(error["msg"])
    position = _POSITION.search(str(context.get("error", ""))) if error["type"] == "json_invalid" else None
    return words.format_map(context) + (f" ({position[0]})" if position else "")
