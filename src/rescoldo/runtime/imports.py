"""How a function's own modules are found: as parts of its package, and by their bare names as well.

The folder with the handler is a package (`from .utils import x`, `from function.utils import x`), with or without an
__init__.py. People also write `import utils` there, as beside a script. That is the same module, imported once: a
second copy would have its own state. It comes last: the standard library and the function's requirements have the
name before a file of the function.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from importlib.abc import Loader
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from types import CodeType, ModuleType


def make_package(name: str, root: str) -> None:
    """Make the folder `name` below `root` importable."""
    folder = f"{root}/{name}"
    if not os.access(f"{folder}/__init__.py", os.F_OK):
        # Left to Python it would be looked for in every entry of sys.path, for parts of it might be there: 25 system
        # calls of a cold start.
        path = f"{folder}/__init__.py"
        loader = _NoFile(name, path)
        spec = spec_from_file_location(name, path, loader=loader, submodule_search_locations=[folder])
        assert spec is not None
        sys.modules[name] = module_from_spec(spec)
    sys.meta_path.append(BareNames(name, folder))


def forget_package(name: str) -> None:
    """Forget the package `name`: what was imported of it, and how."""
    for finder in [finder for finder in sys.meta_path if isinstance(finder, BareNames)]:
        sys.meta_path.remove(finder)
        for bare in finder.found:
            sys.modules.pop(bare, None)
    for loaded in [loaded for loaded in sys.modules if loaded == name or loaded.startswith(f"{name}.")]:
        del sys.modules[loaded]


class _NoFile(SourceFileLoader):
    """Of a package without an __init__.py: its other files can be read as those of any."""

    def get_code(self, fullname: str) -> CodeType | None:
        return compile("", self.path, "exec")


class BareNames:
    """A finder of the modules in `folder` by names without the package's."""

    def __init__(self, package: str, folder: str) -> None:
        self._folder = folder
        self._package = package
        self.found: set[str] = set()  # names in use without the package's

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        top = name.partition(".")[0]
        if top not in self.found:
            whole = f"{self._package}.{name}"
            if top != name or (whole not in sys.modules and PathFinder.find_spec(whole, [self._folder]) is None):
                return None
            if not self.found:  # from now on it is asked first, for what is below these names
                sys.meta_path.remove(self)
                sys.meta_path.insert(0, self)
            self.found.add(top)
        return ModuleSpec(name, _SameModule(f"{self._package}.{name}"))


class _SameModule(Loader):
    """A loader that gives the module of another name."""

    def __init__(self, whole: str) -> None:
        self._whole = whole
        self._spec: ModuleSpec | None = None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(self._whole)
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec  # the import system has put that of the bare name there
