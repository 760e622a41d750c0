"""The file of all values with their comments, and the schema by which Helm checks them; both from `Values`."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

from rescoldo.install.placeholders import NAMESPACE
from rescoldo.install.rendering import key_of, table_of
from rescoldo.install.values import Values
from rescoldo.model.names import DEFAULT_NAMESPACE
from rescoldo.stack.document import dump

WIDTH = 100
HEAD = "# Values of rescoldo on Kubernetes. docs/kubernetes.md tells more.\n"
_TYPES: dict[Any, dict[str, Any]] = {
    bool: {"type": "boolean"},
    int: {"type": "integer", "minimum": 0},
    int | None: {"type": ["integer", "null"], "minimum": 0},
    str: {"type": "string"},
    Sequence[str]: {"type": "array", "items": {"type": "string"}},
    Sequence[int]: {"type": "array", "items": {"type": "integer"}},
    Mapping[str, str]: {"type": "object"},
    Mapping[str, int]: {"type": "object", "additionalProperties": {"type": "integer", "minimum": 1}},
    Mapping[str, Any]: {"type": "object"},
    Sequence[Mapping[str, Any]]: {"type": "array", "items": {"type": "object"}},
}
# what `Values.check` says beyond the types
_RULES: dict[str, dict[str, Any]] = {
    "image": {"minLength": 1},
    "functionNamespaces": {
        "minItems": 1,
        "uniqueItems": True,
        "items": [{"const": DEFAULT_NAMESPACE}],
        "additionalItems": {"type": "string"},
    },
    "gateway.replicas": {"minimum": 1},
    "gateway.drainTimeoutSeconds": {"minimum": 5},
    "worker.replicas": {"minimum": 1},
    "worker": {
        "if": {"properties": {"isolation": {"const": "full"}}},
        "then": {"properties": {"hostUsers": {"const": False}}},
    },
}


@dataclass(frozen=True, slots=True)
class Key:
    """A key of the values: its type, and what it is for."""

    name: str
    kind: Any
    comment: str


def keys(section: type[Any]) -> Iterator[Key]:
    """Yield the keys of a section, in their order; not the namespace, which Helm has."""
    hints = get_type_hints(section, include_extras=True)
    for each in fields(section):
        if each.name != NAMESPACE:
            kind, comment = get_args(hints[each.name])
            yield Key(key_of(each.name), kind, comment)


def values_file(values: Values) -> str:
    """Return values.yaml with `values` as defaults."""
    return HEAD + "".join(_lines(Values, table_of(values), ""))


def schema() -> dict[str, Any]:
    """Return values.schema.json (JSON Schema, draft 7)."""
    return {"$schema": "http://json-schema.org/draft-07/schema#", **_schema_of(Values, "")}


def _lines(section: type[Any], table: Mapping[str, Any], pad: str) -> Iterator[str]:
    for key in keys(section):
        yield "\n" if not pad else ""
        yield textwrap.indent(textwrap.fill(key.comment, WIDTH - len(pad) - 2), f"{pad}# ") + "\n"
        if is_dataclass(key.kind):
            yield f"{pad}{key.name}:\n"
            yield from _lines(key.kind, table[key.name], f"{pad}  ")  # type: ignore[arg-type]  # a class
        else:
            yield _leaf(key.name, table[key.name], pad)


def _leaf(name: str, value: Any, pad: str) -> str:
    if isinstance(value, list | dict) and value:
        return textwrap.indent(dump({name: value}), pad)
    return f"{pad}{name}: {json.dumps(value)}\n"


def _schema_of(section: type[Any], path: str) -> dict[str, Any]:
    properties = {key.name: _property(key, f"{path}{key.name}") for key in keys(section)}
    if not path:
        properties["global"] = {"type": "object"}  # of a chart that has this one below it
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _property(key: Key, path: str) -> dict[str, Any]:
    if is_dataclass(key.kind):
        found = _schema_of(key.kind, f"{path}.")  # type: ignore[arg-type]  # a class
    elif get_origin(key.kind) is Literal:
        found = {"enum": list(get_args(key.kind))}
    else:
        found = _TYPES[key.kind]
    return {"description": key.comment, **found, **_RULES.get(path, {})}
