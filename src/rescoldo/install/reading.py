"""Reads `Values` from a file in YAML, as values.yaml of the chart is one, and from `KEY=VALUE`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from rescoldo.install.rendering import key_of
from rescoldo.install.values import Values
from rescoldo.model.errors import InvalidInput
from rescoldo.stack.document import Document, Value, parse

NOT_OURS = "namespace"  # given with --system-namespace


def read_values(values: Values, file: Path) -> Values:
    """Return `values` with those of a file. Raises InvalidInput with the file and line."""
    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"--values {file}: cannot be read: {error}") from error
    root = parse(text, Document(str(file)))
    return values if root is None else _section(values, root, "")


def set_values(values: Values, settings: Iterable[str]) -> Values:
    """Return `values` with settings like `worker.replicas=3`. Raises InvalidInput."""
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals:
            raise InvalidInput(f"--set {setting!r}: write KEY=VALUE, for example worker.replicas=3")
        nested = text
        for key in reversed(path.split(".")):
            nested = f"{{{json.dumps(key)}: {nested}}}"
        root = parse(nested, Document(f"--set {setting}"))
        assert root is not None
        values = _section(values, root, "")
    return values


def _section(section: Any, given: Value, path: str) -> Any:
    hints = get_type_hints(type(section))
    names = {key_of(each.name): each.name for each in fields(section) if (path or each.name != NOT_OURS)}
    changes = {}
    for key, value in given.table().items():
        if key not in names:
            raise given.unknown(key, tuple(names))
        name = names[key]
        present = getattr(section, name)
        changes[name] = (
            _section(present, value, f"{path}{key}.") if is_dataclass(present) else _leaf(value, hints[name])
        )
    return replace(section, **changes)


def _leaf(value: Value, hint: Any) -> Any:
    if get_origin(hint) is Literal:
        return _one_of(value, get_args(hint))
    readers: dict[Any, Callable[[Value], Any]] = {
        bool: Value.flag,
        int: _whole,
        int | None: lambda found: None if found.is_null() else _whole(found),
        str: Value.text,
        Sequence[str]: Value.texts,
        Sequence[int]: lambda found: tuple(map(_whole, found.items())),
        Mapping[str, str]: Value.text_table,
        Mapping[str, int]: lambda found: {key: _whole(number) for key, number in found.table().items()},
    }
    return readers.get(hint, Value.data)(value)


def _one_of(value: Value, allowed: tuple[str, ...]) -> str:
    text = value.text()
    if text not in allowed:
        raise value.error(f"{text!r} is not allowed; use one of {', '.join(allowed)}")
    return text


def _whole(value: Value) -> int:
    text = value.text()
    if not (text.isascii() and text.isdigit()):
        raise value.error(f"{text!r} is not allowed; use a whole number")
    return int(text)
