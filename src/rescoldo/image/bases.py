"""What an image begins with: the layers of a base, and the Python in them."""

from __future__ import annotations

import re
import sys
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import IO, Any

from rescoldo.image.blobs import Layer
from rescoldo.model.errors import InvalidInput

MINOR = f"{sys.version_info[0]}.{sys.version_info[1]}"  # the Python that compiles for the image, and so the image's
_SOURCE = re.compile(rf"(usr/local|usr)/lib/python{re.escape(MINOR)}/(?!site-packages/|dist-packages/).+\.py")
_INSTALLED = re.compile(rf"(usr/local|usr)/lib/python{re.escape(MINOR)}/(site|dist)-packages/[^/]+")  # first names only
_PROGRAM = re.compile(rf"(usr/local|usr)/bin/python{re.escape(MINOR)}")
_ANY_PROGRAM = re.compile(r"(?:usr/local|usr)/bin/python(3\.\d+)")
_MUSL = re.compile(r"(usr/)?lib/ld-musl-.*")
WHITEOUT = ".wh."  # a later layer removes the file of this name (OCI image specification, layer.md)
OPAQUE = ".wh..wh..opq"  # a later layer removes all that earlier ones have in this folder


@dataclass(frozen=True, slots=True)
class Base:
    """The layers that an image begins with."""

    name: str  # what a user called it
    digest: str  # of its manifest; empty for this machine's Python
    layers: tuple[Layer, ...]
    config: Mapping[str, Any]  # as in OCI's image configuration: Env, Labels, …
    history: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class BasePython:
    """The Python of a base, of this Python's minor version."""

    program: str  # usr/local/bin/python3.11
    packages: str  # the folder that it imports packages from: usr/local/lib/python3.11/site-packages
    modules: Mapping[str, bytes] = field(repr=False)  # its own modules: path in the image → source
    installed: frozenset[str] = frozenset()  # what is in `packages`: pip, pip-24.0.dist-info


def find_python(base: Base) -> BasePython:
    """Return the Python of `base`. Raises InvalidInput if it has none that fits."""
    found = _Found()
    for layer in base.layers:
        with layer.blob.open() as file:
            found.add_layer(file)
    wanted = f"choose a base with Python {MINOR} and glibc, as docker.io/library/python:{MINOR}-slim"
    if found.has_musl:
        raise InvalidInput(f"--base {base.name} is made with musl, and HAProxy's wheel with glibc: {wanted}")
    # as PATH has it: /usr/local comes first
    for prefix in ("usr/local", "usr"):
        modules = {path: source for path, source in found.modules.items() if path.startswith(f"{prefix}/lib/")}
        if f"{prefix}/bin/python{MINOR}" in found.programs and modules:
            folder = packages_folder(prefix, modules)
            return BasePython(f"{prefix}/bin/python{MINOR}", folder, modules, found.names_in(folder))
    others = ", ".join(sorted(found.versions)) or "none"
    raise InvalidInput(
        f"--base {base.name} has no Python {MINOR} (it has {others}), and this rescoldo runs on {MINOR}: {wanted}, "
        "or run rescoldo on the base's version"
    )


class _Found:
    """What is found in layers, each upon the ones before."""

    def __init__(self) -> None:
        self.modules: dict[str, bytes] = {}
        self.programs: set[str] = set()
        self.versions: set[str] = set()
        self.installed: set[str] = set()
        self.has_musl = False

    def add_layer(self, file: IO[bytes]) -> None:
        """Read a layer, plain or compressed with gzip. Raises InvalidInput."""
        try:
            with tarfile.open(fileobj=file, mode="r|*") as tar:
                for member in tar:
                    self._add(tar, member)
        except (tarfile.TarError, OSError, EOFError) as error:
            raise InvalidInput(f"a layer of the base cannot be read ({error}): choose another --base") from error

    def _add(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        path = member.name.removeprefix("./")
        folder, _, name = path.rpartition("/")
        if name == OPAQUE:
            self._forget(folder)
        elif name.startswith(WHITEOUT):
            self._forget(f"{folder}/{name.removeprefix(WHITEOUT)}".removeprefix("/"))
        elif installed := _INSTALLED.match(path):
            self.installed.add(installed[0])
        elif _SOURCE.fullmatch(path) and (content := tar.extractfile(member) if member.isfile() else None):
            self.modules[path] = content.read()
        elif _PROGRAM.fullmatch(path):
            self.programs.add(path)
        elif other := _ANY_PROGRAM.fullmatch(path):
            self.versions.add(other[1])
        elif _MUSL.fullmatch(path):
            self.has_musl = True

    def _forget(self, path: str) -> None:
        for gone in [one for one in self.modules if one == path or one.startswith(f"{path}/")]:
            del self.modules[gone]
        for names in (self.programs, self.installed):
            names -= {one for one in names if one == path or one.startswith(f"{path}/")}

    def names_in(self, folder: str) -> frozenset[str]:
        return frozenset(path.rpartition("/")[2] for path in self.installed if path.rpartition("/")[0] == folder)


def packages_folder(prefix: str, modules: Mapping[str, bytes]) -> str:
    """Return the folder for packages that are not the distribution's own. Debian's site.py has another name for it."""
    site = modules.get(f"{prefix}/lib/python{MINOR}/site.py", b"")
    if b"dist-packages" in site:
        return f"usr/local/lib/python{MINOR}/dist-packages"
    return f"{prefix}/lib/python{MINOR}/site-packages"


def diff_ids(layers: Iterable[Layer]) -> list[str]:
    """Return the digests of the layers before compression, as an image's configuration names them."""
    return [layer.diff_id for layer in layers]
