"""The platform is hidden from functions' code, and instances need none of its modules later."""

import ast
import sys
from pathlib import Path
from types import ModuleType

import pytest

import rescoldo
from rescoldo.runtime.hiding import hide

SOURCE = Path(rescoldo.__file__).parent
IN_INSTANCES = [
    file
    for layer in ("runtime", "isolation", "policy", "model")
    for file in sorted((SOURCE / layer).rglob("*.py"))
    if "rehearsal" not in file.parts
]


@pytest.mark.parametrize("file", IN_INSTANCES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_no_module_that_instances_run_imports_another_of_the_platform_late(file):
    tree = ast.parse(file.read_text())
    late = [
        alias
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in ([node.module] if isinstance(node, ast.ImportFrom) else [name.name for name in node.names])
        if alias.partition(".")[0] not in sys.stdlib_module_names
    ]
    assert late == []


def test_modules_outside_the_standard_library_are_forgotten(monkeypatch):
    monkeypatch.setattr(sys, "modules", {**sys.modules, "its": ModuleType("its"), "its.part": ModuleType("its.part")})
    monkeypatch.setattr(sys, "path", ["/usr/lib/python3.11", "/platform/src", "/platform/lib"])
    monkeypatch.setattr(sys, "path_importer_cache", {"/platform/lib": None, "/platform/lib/its": None, "/usr": None})
    hide(["/platform/src", "/platform/lib"])
    assert sys.path == ["/usr/lib/python3.11"]
    assert list(sys.path_importer_cache) == ["/usr"]
    left = {name.partition(".")[0] for name in sys.modules}
    assert left <= sys.stdlib_module_names | {"__main__"} and "importlib" in left
    assert not hasattr(sys.modules["__main__"], "pytest")
