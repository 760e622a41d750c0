"""Modules and functions are small, and no module imports itself in a circle; a longer one says why.

A longer function has `# long: REASON` on the line above its `def` (above its decorators), a longer module among its
first lines.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest

SOURCE = Path(__file__).parents[2] / "src/rescoldo"
MOST_OF_A_MODULE = 350  # lines
MOST_OF_A_FUNCTION = 40
REASON = re.compile(r"\s*# long: \w")
HEAD = 5  # lines in which a module gives its reason


def too_long(path: str, text: str) -> Iterator[str]:
    """A line for the module and for each function that is too long and does not say why."""
    lines = text.splitlines()
    if len(lines) > MOST_OF_A_MODULE and not any(map(REASON.match, lines[:HEAD])):
        yield f"{path}: {len(lines)} lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            length = node.end_lineno - node.lineno + 1
            if length > MOST_OF_A_FUNCTION and not (first > 1 and REASON.match(lines[first - 2])):
                yield f"{path}:{node.lineno}: {node.name} has {length} lines"


def test_modules_and_functions_are_small_or_say_why_they_are_not() -> None:
    found = [
        line
        for file in sorted(SOURCE.rglob("*.py"))
        for line in too_long(str(file.relative_to(SOURCE.parent)), file.read_text())
    ]
    assert found == []


LONG = "def f():\n" + "    x = 1\n" * MOST_OF_A_FUNCTION


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("x = 1\n" * (MOST_OF_A_MODULE + 1), ["m.py: 351 lines"]),
        ("# long: one table\n" + "x = 1\n" * MOST_OF_A_MODULE, []),
        ("x = 1\n" * MOST_OF_A_MODULE + "# long: too late\n", ["m.py: 351 lines"]),
        (LONG, ["m.py:1: f has 41 lines"]),
        (LONG.removesuffix("    x = 1\n"), []),
        (f"async {LONG}", ["m.py:1: f has 41 lines"]),
        (f"# long: one table\n{LONG}", []),
        (f"# long:\n{LONG}", ["m.py:2: f has 41 lines"]),
        (f"# long: one table\n@g\n{LONG}", []),
        ("class C:\n    # long: one table\n" + "".join(f"    {line}\n" for line in LONG.splitlines()), []),
    ],
)
def test_long_modules_and_functions_are_found_unless_they_say_why(text: str, found: list[str]) -> None:
    assert list(too_long("m.py", text)) == found


def circle(imports: dict[str, set[str]]) -> list[str]:
    """Modules that import each other in this order, from one to itself; empty without a circle."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return list(reversed(error.args[1]))  # graphlib names each module after its importer
    return []


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = grimp.build_graph("rescoldo", cache_dir=None)
    assert circle({module: graph.find_modules_directly_imported_by(module) for module in graph.modules}) == []


def test_a_circle_is_found() -> None:
    assert circle({"a": {"b"}, "b": set()}) == []
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) in (["b", "c", "b"], ["c", "b", "c"])
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) in (list("abca"), list("bcab"), list("cabc"))
