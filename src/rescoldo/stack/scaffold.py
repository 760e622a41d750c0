"""Adds a function to a new or existing stack file, and leaves the author's text as it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from rescoldo.model.errors import Conflict, InvalidInput
from rescoldo.stack.document import Document, parse
from rescoldo.stack.file import StackFile, parse_stack
from rescoldo.stack.source import Source
from rescoldo.stack.substitute import Variables


@dataclass(frozen=True, slots=True)
class StackEntry:
    """The keys of a new function."""

    name: str
    lang: str
    handler: str
    image: str
    fprocess: str = ""  # command of a program
    upstream_url: str = ""

    def lines(self, indent: int) -> list[str]:
        """Return the entry as lines of YAML, its name indented by `indent` columns."""
        left = " " * indent
        keys = (("lang", self.lang), ("handler", self.handler), ("image", self.image))
        written = [f"{left}{self.name}:", *(f"{left}  {key}: {value}" for key, value in keys)]
        if self.fprocess:
            written.append(f"{left}  fprocess: {self.fprocess}")
        if self.upstream_url:
            environment = (("mode", "http"), ("upstream_url", self.upstream_url))
            written += [f"{left}  environment:", *(f"{left}    {key}: {value}" for key, value in environment)]
        return written


def new_stack(entry: StackEntry, gateway: str) -> str:
    """Return the text of a stack file with one function."""
    head = ["version: 1.0", "provider:", "  name: openfaas", f"  gateway: {gateway}", "functions:"]
    return "\n".join([*head, *entry.lines(2)]) + "\n"


def append_entry(source: Source, entry: StackEntry, environment: Mapping[str, str]) -> str:
    """Return the text of `source` with `entry` as its last function; everything else stays, including comments.

    Raises Conflict if the file has a function of that name; InvalidInput if it is not valid, or is written in a way to
    which no lines can be added.
    """
    before = parse_stack(source, environment)
    if any(function.name == entry.name for function in before.functions):
        raise Conflict(f"{source.name} already has a function {entry.name!r}; choose another name")
    text = _insert(source, entry, environment)
    # the insertion works on lines: read the result to make sure that it added the entry and changed nothing else
    try:
        after = parse_stack(Source(source.name, text, source.folder), environment)
    except InvalidInput as error:
        raise _by_hand(source, entry) from error
    if not _only_added(before, after, entry.name):
        raise _by_hand(source, entry)
    return text


def _insert(source: Source, entry: StackEntry, environment: Mapping[str, str]) -> str:
    lines = source.text.splitlines()
    root = parse(source.text, Document(source.name), Variables(source.name, environment))
    functions = root.table().get("functions") if root else None
    if functions is None:
        return "\n".join([*lines, "functions:", *entry.lines(2)]) + "\n"
    if not functions.table():
        # `functions:` or `functions: {}`: the entry goes below it
        at = functions.line
        lines[at - 1] = re.sub(r"(functions:)\s*(\{\s*\}|~|null)", r"\1", lines[at - 1])
        return "\n".join([*lines[:at], *entry.lines(2), *lines[at:]]) + "\n"
    at = functions.last_line()
    return "\n".join([*lines[:at], *entry.lines(functions.indent()), *lines[at:]]) + "\n"


def _only_added(before: StackFile, after: StackFile, name: str) -> bool:
    kept = [function for function in after.functions if function.name != name]
    same = [(f.name, f.to_spec()) for f in kept] == [(f.name, f.to_spec()) for f in before.functions]
    return same and len(after.functions) == len(before.functions) + 1 and before.gateway == after.gateway


def _by_hand(source: Source, entry: StackEntry) -> InvalidInput:
    lines = "\n".join(entry.lines(2))
    return InvalidInput(f"{source.name}: cannot insert the entry; write this below `functions:` yourself:\n{lines}")
