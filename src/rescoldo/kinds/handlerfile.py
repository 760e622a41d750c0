"""Checks a Python handler file before a build: whether it compiles, and the parameters of `handle`. Runs none of its
code."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

from rescoldo.model.errors import BuildFailed

_SIGNATURES = {"http": "def handle(event, context)", "classic": "def handle(req)"}
_PARAMETERS = {1: "classic", 2: "http"}  # number of parameters of `handle` → style


def check_handler(folder: Path, style: str) -> None:
    """Raise BuildFailed unless `folder`/handler.py compiles and may define `handle` at its top level."""
    file = folder / "handler.py"
    if not folder.is_dir():
        wrong = "not a folder" if folder.exists() else "the folder does not exist"
        raise BuildFailed(f"{folder}: {wrong}; `handler:` names the folder of handler.py")
    if not file.is_file():
        raise BuildFailed(f"{folder}: it has no handler.py; add one with `{_SIGNATURES[style]}`")
    name = f"{folder}/handler.py"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(file.read_bytes(), name)
            compile(tree, name, "exec", dont_inherit=True)  # `return` at top level is only found here
    except SyntaxError as error:
        raise BuildFailed(f"{name}:{error.lineno or 1}: {error.msg}") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise BuildFailed(f"{name}:1: cannot be compiled: {error}") from error
    except OSError as error:
        raise BuildFailed(f"{name}: cannot be read: {error.strerror}") from error
    if not {"handle", "*"} & set(_names(tree.body)):
        raise BuildFailed(f"{name}:1: defines no `handle`; add `{_SIGNATURES[style]}`")


def style_of(file: Path) -> str:
    """Return the style of a handler, by the number of parameters of its `handle`. Raises BuildFailed if that is
    ambiguous."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, RecursionError):
        return "http"  # the build itself reports the error, with its line
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == "handle":
            count = len(node.args.posonlyargs) + len(node.args.args)
            if style := _PARAMETERS.get(count):
                return style
    raise BuildFailed(
        "the template is unknown, and its handler.py does not define a known function: define `def handle(event, "
        "context)` or `def handle(req)` in it"
    )


def _names(body: Iterable[ast.stmt]) -> Iterator[str]:
    """Names that a module's statements bind; `*` for an import that may bind any."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (name.id for t in targets for name in ast.walk(t) if isinstance(name, ast.Name))
        else:
            # if, try, with, for, match: statements inside them still belong to the module's top level
            for _, value in ast.iter_fields(node):
                parts = value if isinstance(value, list) else []
                yield from _names(part for part in parts if isinstance(part, ast.stmt))
                for part in parts:
                    if isinstance(part, ast.ExceptHandler | ast.match_case):
                        yield from _names(part.body)
