"""A base made of this machine's own Python, where no registry can be reached.

It has the interpreter, its modules and the libraries of this machine that they and the packages need, certificates,
time zones and a shell with some programs. A Python below /usr stays there, since a distribution may have changed it;
any other finds its modules from where it is, and goes to /usr/local.
"""

from __future__ import annotations

import os
import re
import shutil
import ssl
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

from rescoldo.image.bases import MINOR, Base
from rescoldo.image.layers import Entry, executable, file_entry, write_layer
from rescoldo.model.errors import InvalidInput

MACHINE = "machine"  # the name of this base
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# what a function's program, and a user in the pod, may expect
PROGRAMS = (
    "sh", "ls", "cat", "kill", "sleep", "id", "env", "grep", "find", "head", "tail", "wc", "stat", "mkdir", "rm",
    "touch", "dd", "df", "cp", "mv", "ln", "sed", "sort", "date", "uname", "true", "false", "printf", "test",
)  # fmt: skip
_MERGED = ("bin", "sbin", "lib", "lib64")  # names at the root that lead below usr, as in every distribution now
_LEFT_OUT = {"__pycache__", "test", "tests", "idlelib", "lib2to3", "pydoc_data", "ensurepip", "tkinter", "turtledemo",
             "site-packages", "dist-packages"}  # fmt: skip
_LEFT_OUT_MODULES = ("_tkinter.", "_test", "_xxtest", "_ctypes_test")  # of lib-dynload; tkinter would bring X11
_BUILDS = "config-"  # folders with what one needs to compile Python into a program
_LEFT_OUT_ZONES = {"posix", "right"}  # the same zones again
_LIBRARY = re.compile(r"^\s+(?:(\S+) => )?(/\S+) \(0x", re.MULTILINE)  # a line of ldd


def machine_base(installed: Path, work: Path) -> Base:
    """Write the layer of this machine's Python, with the libraries that the packages in `installed` need, into `work`.

    Raises InvalidInput on a machine that is not Linux with ldd.
    """
    entries = {entry.path: entry for entry in chain(_frame(), _python(), _files(), _programs())}
    binaries = [entry.content for entry in entries.values() if isinstance(entry.content, Path)]
    binaries += [path for path in installed.rglob("*") if path.is_file()]
    libraries = _libraries((path for path in binaries if _is_elf(path)), installed)
    layer = write_layer([*entries.values(), *libraries], work / "machine.tar.gz")
    return Base(MACHINE, "", (layer,), {"Env": [f"PATH={PATH}"]}, ({"created_by": "this machine's Python"},))


def _frame() -> Iterator[Entry]:
    for name in _MERGED:
        yield Entry(f"usr/{name}", is_folder=True, mode=0o755)
        yield Entry(name, link=f"usr/{name}")
    for name in ("dev", "proc", "sys", "run", "root", "var", "var/lib"):
        yield Entry(name, is_folder=True, mode=0o755)
    yield Entry("etc/passwd", b"root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n")
    yield Entry("etc/group", b"root:x:0:\nnogroup:x:65534:\n")


def _python() -> Iterator[Entry]:
    prefix = "usr" if sys.base_prefix == "/usr" else "usr/local"
    program = Path(getattr(sys, "_base_executable", "") or sys.executable).resolve()
    yield Entry(f"{prefix}/bin/python{MINOR}", program, mode=0o755)
    for name in ("python3", "python"):
        yield Entry(f"{prefix}/bin/{name}", link=f"python{MINOR}")
    stdlib = Path(sysconfig.get_path("stdlib"))
    for path in _below(stdlib, _LEFT_OUT):
        if not path.name.startswith(_LEFT_OUT_MODULES):
            yield file_entry(f"{prefix}/lib/python{MINOR}/{path.relative_to(stdlib).as_posix()}", path)


def _files() -> Iterator[Entry]:
    paths = ssl.get_default_verify_paths()
    if paths.cafile:
        yield Entry(paths.openssl_cafile.removeprefix("/"), Path(paths.cafile))
    zones = Path("/usr/share/zoneinfo")
    for path in _below(zones, _LEFT_OUT_ZONES):
        yield Entry(f"usr/share/zoneinfo/{path.relative_to(zones).as_posix()}", path)
    for name in ("etc/os-release", "etc/mime.types"):
        if (path := Path("/", name)).is_file():
            yield Entry(name, path)


def _programs() -> Iterator[Entry]:
    for name in PROGRAMS:
        if found := shutil.which(name, path=PATH):
            yield Entry(f"usr/bin/{name}", Path(found).resolve(), mode=0o755)


def _below(folder: Path, left_out: set[str]) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in set(folders) - left_out if not name.startswith(_BUILDS))
        for name in sorted(files):
            if (path := Path(parent, name)).is_file():
                yield path


def _libraries(binaries: Iterable[Path], installed: Path) -> Iterator[Entry]:
    """Yield the libraries that `binaries` need of this machine, all in the folder of libc, where the loader looks
    without being told. Those that a package in `installed` brings for itself stay there: HAProxy's wheel has another
    libssl.so.3 than this machine."""
    try:
        # a file that is no program for this machine is told on stderr, and is none of ours to repair
        said = subprocess.run(
            ["ldd", *sorted(map(str, binaries))], capture_output=True, text=True, check=False,
            env={"PATH": PATH, "LC_ALL": "C"},
        ).stdout  # fmt: skip
    except OSError as error:
        raise InvalidInput(f"--base {MACHINE} needs Linux with ldd ({error}): name an image as --base") from error
    all_found = ((name or path, Path(path)) for name, path in _LIBRARY.findall(said))
    found = {name: path for name, path in all_found if not path.is_relative_to(installed)}
    if (libc := found.get("libc.so.6")) is None:
        raise InvalidInput(f"--base {MACHINE} needs a machine with glibc: name an image as --base")
    home = _below_usr(libc.parent)
    for name, path in found.items():
        # the loader itself is named by its whole path
        yield Entry(_below_usr(Path(name)) if name.startswith("/") else f"{home}/{name}", path.resolve(), mode=0o755)


def _below_usr(path: Path) -> str:
    """`/lib/x86_64-linux-gnu` → `usr/lib/x86_64-linux-gnu`"""
    inside = path.as_posix().removeprefix("/")
    return inside if inside.startswith("usr/") else f"usr/{inside}"


def _is_elf(path: Path) -> bool:
    if path.suffix != ".so" and ".so." not in path.name and not executable(path):
        return False
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"
