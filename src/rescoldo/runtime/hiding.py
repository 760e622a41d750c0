"""Hides the platform's packages from functions: they can import the standard library, their own folder and their
requirements.

The zygote has imported the modules that serve functions: rescoldo, httptools, uvloop. Before it forks, `hide` takes
them out of the import system. They stay alive, because each module refers to the modules it uses. A later import of
the same name searches sys.path as if the module had never been imported, and finds the function's own copy or nothing.
A function may even bring its own httptools or uvloop: a compiled module in another file is another module.

A module that instances run must therefore import the platform's modules at its top; a later import would not find
them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import ModuleType


def hide(platform_path: Sequence[str]) -> None:
    """Forget all modules outside the standard library, and remove `platform_path`, the platform's folders, from
    sys.path."""
    sys.path[:] = [path for path in sys.path if path not in platform_path]
    for path in platform_path:
        for known in [name for name in sys.path_importer_cache if name == path or name.startswith(f"{path}/")]:
            del sys.path_importer_cache[known]
    for name in list(sys.modules):
        if name.partition(".")[0] not in sys.stdlib_module_names:
            del sys.modules[name]
    # The present one refers to the program that started the zygote; the interpreter needs a module of this name.
    sys.modules["__main__"] = ModuleType("__main__")


def advice(error: BaseException) -> str:
    """Return a remedy for a missing package; empty for a module missing from a package that exists. The function's own
    exception class may make it raise anything."""
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return ""
    package = error.name.partition(".")[0]
    if package in sys.modules or package in sys.stdlib_module_names:
        return ""
    return "add the package that provides it to requirements.txt"
