"""Reads YAML into a tree of values that know their file and line, so that every error names its place.

This is the only module that imports PyYAML. It composes nodes and constructs no objects: scalars keep the text that the
user wrote (`1.10` stays `1.10`), and only the values that the schema needs are read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

import yaml

from rescoldo.model.errors import InvalidInput
from rescoldo.stack.substitute import Variables

MAX_BYTES = 2**20  # of one YAML file
MAX_DEPTH = 40  # levels: the C composer recurses on the C stack, and 500,000 open brackets crash the process
MAX_VALUES = 100_000  # read in one file: an alias bomb repeats a few nodes millions of times

_LOADER: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DUMPER: type[Any] = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_TRUE = {"true", "yes", "on", "y"}
_FALSE = {"false", "no", "off", "n"}
_NULL = {"", "null", "~"}


@dataclass(slots=True)
class Document:
    """One YAML file: its name for messages, the variables of its texts, and a budget of values."""

    name: str
    variables: dict[int, tuple[str, ...]] = field(default_factory=dict)  # names used in a text, by its node's id
    budget: int = MAX_VALUES  # values that may still be read
    last: int = MAX_BYTES  # its last line, from 1: YAML reports a missing end in the line after it

    def where(self, line: int) -> str:
        """Return `file:line` of a line, which is counted from 0."""
        return f"{self.name}:{min(line + 1, self.last)}"


@dataclass(frozen=True, slots=True)
class Value:
    """A node of a document, and the path of keys that leads to it."""

    node: yaml.Node
    document: Document = field(repr=False)
    path: str = ""
    key: yaml.Node | None = None  # of a mapping's value; it gives the line, as a nested block begins one line later

    @property
    def line(self) -> int:
        return int(self._first.start_mark.line) + 1

    @property
    def _first(self) -> yaml.Node:
        return self.node if self.key is None else self.key

    def error(self, problem: str) -> InvalidInput:
        """Return an InvalidInput that begins with `file:line:` and names the key."""
        what = f"{self.path}: " if self.path else ""
        return InvalidInput(f"{self.place}: {what}{problem}")

    @property
    def place(self) -> str:
        """`file:line`, and the variables used in the value."""
        names = [*self._names(self.key), *self._names(self.node)]
        given = f" ({', '.join(f'${{{name}}}' for name in names)})" if names else ""
        return f"{self.document.where(self._first.start_mark.line)}{given}"

    def _names(self, node: yaml.Node | None) -> tuple[str, ...]:
        return self.document.variables.get(id(node), ())

    def is_null(self) -> bool:
        node = self.node
        return isinstance(node, yaml.ScalarNode) and not node.style and node.value.lower() in _NULL

    def is_table(self) -> bool:
        """Return whether `table()` can read this: a mapping, or null for an empty one."""
        return self.is_null() or isinstance(self.node, yaml.MappingNode)

    def text(self) -> str:
        """Return a scalar as it was written; null is empty text."""
        if not isinstance(self.node, yaml.ScalarNode):
            raise self.error(f"expected text, found {_kind(self.node)}")
        return "" if self.is_null() else self.node.value

    def flag(self) -> bool:
        text = self.text().lower()
        if text not in _TRUE | _FALSE:
            raise self.error(f"{text!r} is not allowed; use true or false")
        return text in _TRUE

    def items(self) -> list[Value]:
        """Return the values of a list; null is an empty list."""
        if self.is_null():
            return []
        if not isinstance(self.node, yaml.SequenceNode):
            raise self.error(f"expected a list, found {_kind(self.node)}")
        return [self._child(node, f"{self.path}[{i}]") for i, node in enumerate(self.node.value)]

    def table(self) -> dict[str, Value]:
        """Return the keys and values of a mapping; null is an empty mapping. Raises InvalidInput for a repeated key."""
        if self.is_null():
            return {}
        if not isinstance(self.node, yaml.MappingNode):
            raise self.error(f"expected keys and values, found {_kind(self.node)}")
        return self._table(self.node, ())

    def texts(self) -> tuple[str, ...]:
        return tuple(item.text() for item in self.items())

    def text_table(self) -> dict[str, str]:
        return {key: value.text() for key, value in self.table().items()}

    def indent(self) -> int:
        """Return the column of a mapping's first key."""
        return int(self.node.value[0][0].start_mark.column)

    def last_line(self) -> int:
        """Return the last line, from 1, with a part of this value: YAML marks its end only after the comments that
        follow it."""
        node = self.node
        while isinstance(node, yaml.CollectionNode) and node.value and not node.flow_style:
            last = node.value[-1]
            node = last[1] if isinstance(last, tuple) else last
        mark = node.end_mark
        # a block of text ends where the next line begins
        ends_before = mark.column == 0 and mark.line > node.start_mark.line
        return int(mark.line) if ends_before else int(mark.line) + 1

    def plain(self) -> Any:
        """Return the value as dicts, lists and text, for a file that is read and written back."""
        if isinstance(self.node, yaml.MappingNode):
            return self.plain_table()
        return [item.plain() for item in self.items()] if isinstance(self.node, yaml.SequenceNode) else self.text()

    def data(self) -> Any:
        """Return the value with the types that YAML gives: for what another program defines and reads."""
        try:
            return yaml.constructor.SafeConstructor().construct_document(self.node)
        except yaml.YAMLError as error:
            raise self.error("is neither text, number, list nor table") from error

    def plain_table(self) -> dict[str, Any]:
        return {key: value.plain() for key, value in self.table().items()}

    def only(self, allowed: tuple[str, ...]) -> dict[str, Value]:
        """Return `table()`; raise InvalidInput for a key that is not in `allowed`."""
        table = self.table()
        for key, value in table.items():
            if key not in allowed:
                raise value.unknown(key, allowed)
        return table

    def unknown(self, key: str, allowed: tuple[str, ...]) -> InvalidInput:
        """Return the error for this value's `key`, which is not in `allowed`."""
        return self.error(f"unknown key{suggestion(key, allowed)}; allowed are {', '.join(allowed)}")

    def _table(self, node: yaml.MappingNode, merging: tuple[int, ...]) -> dict[str, Value]:
        own: dict[str, Value] = {}
        merged: dict[str, Value] = {}
        for key_node, value_node in node.value:
            key = Value(key_node, self.document, self.path).text()
            value = self._child(value_node, f"{self.path}.{key}" if self.path else key, key_node)
            if key == "<<" and not key_node.style:
                for name, inherited in value._merge_sources((*merging, id(node))):
                    merged.setdefault(name, inherited)
            elif key in own:
                raise Value(key_node, self.document, value.path).error(
                    f"is given twice, first in line {own[key].line}; keep one"
                )
            else:
                own[key] = value
        return merged | own

    def _merge_sources(self, merging: tuple[int, ...]) -> Iterator[tuple[str, Value]]:
        for item in self.items() if isinstance(self.node, yaml.SequenceNode) else [self]:
            if not isinstance(item.node, yaml.MappingNode) or id(item.node) in merging:
                raise item.error("`<<` needs the alias of another mapping")
            yield from item._table(item.node, merging).items()

    def _child(self, node: yaml.Node, path: str, key: yaml.Node | None = None) -> Value:
        self.document.budget -= 1
        if self.document.budget < 0:
            raise self.error(f"more than {MAX_VALUES:,} values with all aliases written out; use fewer")
        return Value(node, self.document, path, key)


def parse(text: str, document: Document, variables: Variables | None = None) -> Value | None:
    """Compose `text` and fill in its `variables`; None if it is empty. Raises InvalidInput with `file:line:`."""
    if len(text) > MAX_BYTES:
        raise InvalidInput(f"{document.name}: larger than {MAX_BYTES:,} bytes, the most a YAML file may have")
    document.last = max(1, len(text.splitlines()))
    if variables is None:
        return _composed(text, document)
    try:
        root = _composed(variables.take_out(text), document, variables)
    except InvalidInput:
        variables.check_forms()  # the likely cause: `${A` without its end swallows the rest of its line
        raise
    if root is not None:
        _fill(root.node, document, variables)
    return root


def _fill(root: yaml.Node, document: Document, variables: Variables) -> None:
    """Fill in the variables of each text below `root`, once however many aliases lead to it."""
    waiting, seen = [root], {id(root)}
    while waiting:
        node = waiting.pop()
        if isinstance(node, yaml.ScalarNode):
            filled = variables.fill(node.value, plain=not node.style)
            if filled is not None:
                node.value = filled.text
                node.style = node.style or ("'" if filled.literal else None)
                document.variables[id(node)] = filled.names
            continue
        parts = node.value
        below = [part for pair in parts for part in pair] if isinstance(node, yaml.MappingNode) else parts
        waiting += [part for part in reversed(below) if id(part) not in seen]
        seen.update(map(id, below))


def _composed(text: str, document: Document, variables: Variables | None = None) -> Value | None:
    try:
        _check_depth(text, document)
        node = yaml.compose(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = document.where(mark.line) if mark else document.name
        problem = f"{error.problem or error.context}"
        if variables is not None:
            problem = variables.shown(problem)
            first = error.context_mark or mark
            if mark and first and (given := variables.on(first.line + 1, mark.line + 1)):
                problem += f"; the value of {', '.join(given)} is one text: it cannot contain keys, lists or anchors"
        raise InvalidInput(f"{where}: not valid YAML: {problem}") from error
    except yaml.YAMLError as error:
        raise InvalidInput(f"{document.name}: not valid YAML: {error}".splitlines()[0]) from error
    return Value(node, document) if node is not None else None


def _check_depth(text: str, document: Document) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                line = event.start_mark.line if event.start_mark else 0
                raise InvalidInput(f"{document.where(line)}: nested deeper than {MAX_DEPTH} levels")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def dump(data: Mapping[str, Any]) -> str:
    """Return plain data as YAML text, with the keys in their order."""
    return str(yaml.dump(data, Dumper=_DUMPER, sort_keys=False, default_flow_style=False))


def load_own(text: str) -> Any:
    """Return YAML that comes with the program as plain data. A user's file is read by `parse`, which names places."""
    return yaml.load(text, Loader=_LOADER)


def suggestion(word: str, allowed: tuple[str, ...] | list[str]) -> str:
    """Return ` (did you mean 'X'?)` if an allowed word resembles `word`, else an empty text."""
    close = get_close_matches(word, allowed, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _kind(node: yaml.Node) -> str:
    if isinstance(node, yaml.MappingNode):
        return "keys and values"
    return "a list" if isinstance(node, yaml.SequenceNode) else repr(str(node.value)[:40])
