"""Compiles modules to bytes that depend on their source alone.

A bundle carries compiled modules, so that no instance compiles at its first import. An instance could not keep the
result either, because its code is read-only.
"""

from __future__ import annotations

import importlib.util
import marshal
import warnings
from pathlib import Path

# PEP 552: hash-based, and never checked against the source: a bundle does not change
_UNCHECKED = (0b01).to_bytes(4, "little")
# Later formats record references and interning as they happen to be in the writing process, so the same source would
# not always give the same bytes.
_MARSHAL_VERSION = 2


def compile_source(source: bytes, name: str) -> bytes:
    """Return the .pyc of `source`; `name` is the path shown in tracebacks until the import system corrects it.

    Raises SyntaxError or ValueError (null bytes).
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an old escape in a dependency does not concern the builder
        code = compile(source, name, "exec", dont_inherit=True, optimize=0)
    header = importlib.util.MAGIC_NUMBER + _UNCHECKED + importlib.util.source_hash(source)
    return header + marshal.dumps(code, _MARSHAL_VERSION)


def compiled_name(path: str) -> str:
    """`function/a.py` → `function/__pycache__/a.cpython-311.pyc`"""
    return importlib.util.cache_from_source(path, optimization="")


def compile_tree(root: Path) -> None:
    """Write a .pyc for every module below `root`, except for modules that do not compile: packages ship templates and
    code for other Pythons."""
    for file in sorted(root.rglob("*.py")):
        if file.is_symlink() or not file.is_file():
            continue
        try:
            data = compile_source(file.read_bytes(), str(file.relative_to(root)))
        except (SyntaxError, ValueError, RecursionError):
            continue
        target = Path(compiled_name(str(file)))
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(data)
