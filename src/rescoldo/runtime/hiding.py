"""What a function can import: the standard library, its own folder and its requirements. Nothing of the platform's.

The zygote has imported what serves functions: rescoldo, httptools, uvloop. Before it forks, `hide` takes these modules
out of the import system. They live on, since each module that uses one holds it. An import of the same name looks for
it along sys.path as if it had never been imported, and finds what the function brought, or nothing. A function may even
bring an httptools or uvloop of its own: a compiled module in another file is another module.

So no module that instances run may import one of the platform's later than at its top: it would not be found.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import ModuleType


def hide(platform_path: Sequence[str]) -> None:
    """Forget all modules that are not of the standard library, and `platform_path`, the folders that the platform's
    were found in."""
    sys.path[:] = [path for path in sys.path if path not in platform_path]
    for path in platform_path:
        for known in [name for name in sys.path_importer_cache if name == path or name.startswith(f"{path}/")]:
            del sys.path_importer_cache[known]
    for name in list(sys.modules):
        if name.partition(".")[0] not in sys.stdlib_module_names:
            del sys.modules[name]
    # the present one holds what started the zygote; the interpreter wants one of this name
    sys.modules["__main__"] = ModuleType("__main__")


def advice(error: BaseException) -> str:
    """What to do about a package that is not there; nothing for a module that is missing in one that is. Raises what
    an error made by a function's code may make it raise."""
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return ""
    package = error.name.partition(".")[0]
    if package in sys.modules or package in sys.stdlib_module_names:
        return ""
    return "add the package that provides it to requirements.txt"
