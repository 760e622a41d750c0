"""Imports a function's own modules, both as parts of its package and by their bare names.

The folder with the handler is a package (`from .utils import x`, `from function.utils import x`), with or without an
__init__.py. People also write `import utils` there, as in a script. Both yield the same module, imported once, because
a second copy would have its own state. Bare names are searched last: the standard library and the function's
requirements take precedence over the function's files.
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
        # Without this, Python would search every entry of sys.path for further parts of a namespace package: 25 system
        # calls in a cold start.
        path = f"{folder}/__init__.py"
        loader = _NoFile(name, path)
        spec = spec_from_file_location(name, path, loader=loader, submodule_search_locations=[folder])
        assert spec is not None
        sys.modules[name] = module_from_spec(spec)
    sys.meta_path.append(BareNames(name, folder))


def forget_package(name: str) -> None:
    """Forget the package `name`: its imported modules and its finders."""
    for finder in [finder for finder in sys.meta_path if isinstance(finder, BareNames)]:
        sys.meta_path.remove(finder)
        for bare in finder.found:
            sys.modules.pop(bare, None)
    for loaded in [loaded for loaded in sys.modules if loaded == name or loaded.startswith(f"{name}.")]:
        del sys.modules[loaded]


class _NoFile(SourceFileLoader):
    """Loads a package without an __init__.py as if the file were empty; reads its other files normally."""

    def get_code(self, fullname: str) -> CodeType | None:
        return compile("", self.path, "exec")


class BareNames:
    """Finds the modules in `folder` by their names without the package's."""

    def __init__(self, package: str, folder: str) -> None:
        self._folder = folder
        self._package = package
        self.found: set[str] = set()  # top-level names that this finder has found

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        top = name.partition(".")[0]
        if top not in self.found:
            whole = f"{self._package}.{name}"
            if top != name or (whole not in sys.modules and PathFinder.find_spec(whole, [self._folder]) is None):
                return None
            if not self.found:  # from now on it must come first, to find submodules of these names
                sys.meta_path.remove(self)
                sys.meta_path.insert(0, self)
            self.found.add(top)
        return ModuleSpec(name, _SameModule(f"{self._package}.{name}"))


class _SameModule(Loader):
    """Returns the module already known by its full name."""

    def __init__(self, whole: str) -> None:
        self._whole = whole
        self._spec: ModuleSpec | None = None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(self._whole)
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec  # the import system has set the bare name's spec
