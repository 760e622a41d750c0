"""Fills the places of objects from `Values`: what `manifests` prints and `install` applies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from rescoldo.install.placeholders import (
    Condition,
    Each,
    Entry,
    Equal,
    Field,
    Not,
    Place,
    Sum,
    Text,
    Tree,
    Variable,
    When,
)
from rescoldo.install.values import Values


def key_of(name: str) -> str:
    """Return the key of a field: `min_ready_seconds` is `minReadySeconds`."""
    first, *rest = name.split("_")
    return first + "".join("IP" if word == "ip" else word.capitalize() for word in rest)


def table_of(values: Any) -> dict[str, Any]:
    """Return values, or a section of them, as the table that values.yaml has."""
    return {key_of(each.name): _plain(getattr(values, each.name)) for each in fields(values)}


def render(objects: Sequence[Tree], values: Values) -> list[dict[str, Any]]:
    """Return the objects with all places filled. Raises InvalidInput for values that cannot be."""
    values.check()
    return list(_Filling(table_of(values), {}).items(objects))


class _Filling:
    """The values, and the variables of the `Each` around."""

    def __init__(self, values: Mapping[str, Any], variables: Mapping[str, Any]) -> None:
        self._values, self._variables = values, variables

    def tree(self, tree: Tree) -> Any:
        if isinstance(tree, Field | Variable):
            return self._value(tree)
        if isinstance(tree, Entry):
            return self._value(tree.table).get(self._value(tree.key)) or self._value(tree.otherwise)
        if isinstance(tree, Text):
            return tree.form.format(*map(self._value, tree.places))
        if isinstance(tree, Sum):
            return self._value(tree.field) + tree.plus
        if isinstance(tree, Mapping):
            return dict(self._entries(tree))
        if isinstance(tree, str | int):
            return tree
        assert not isinstance(tree, When | Each), f"{tree} is no member of a list or table"
        return list(self.items(tree))

    def items(self, trees: Sequence[Tree]) -> Iterator[Any]:
        for tree in trees:
            if isinstance(tree, Each):
                for variables in self._rounds(tree):
                    yield from _Filling(self._values, {**self._variables, **variables}).items(tree.items)
            elif isinstance(tree, When):
                chosen = self._chosen(tree)
                assert not isinstance(chosen, str)
                yield from self.items(chosen or ())  # type: ignore[arg-type]  # a list, in a list
            else:
                yield self.tree(tree)

    def _entries(self, table: Mapping[str, Tree]) -> Iterator[tuple[str, Any]]:
        for key, tree in table.items():
            found = self._chosen(tree) if isinstance(tree, When) else tree
            if found is not None:
                yield key, self.tree(found)

    def _chosen(self, when: When) -> Tree | None:
        return when.then if self._holds(when.condition) else when.otherwise

    def _holds(self, condition: Condition) -> bool:
        if isinstance(condition, Not):
            return not self._holds(condition.what)
        if isinstance(condition, Equal):
            return bool(self._value(condition.field) == condition.text)
        return bool(self._value(condition))

    def _rounds(self, each: Each) -> Iterator[dict[str, Any]]:
        members = self._value(each.field)
        names = [variable.name for variable in each.variables]
        if isinstance(members, Mapping):
            yield from (dict(zip(names, pair, strict=True)) for pair in sorted(members.items()))
        else:
            yield from ({names[0]: member} for member in members)

    def _value(self, place: Place) -> Any:
        if isinstance(place, Variable):
            return self._variables[place.name]
        found: Any = self._values
        for key in place.path.split("."):
            found = found[key]
        return found


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return table_of(value)
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    return value
