"""Writes what an image has beyond its base into a folder, which the Dockerfile copies: the same files as in the layer,
but for the metadata of rescoldo, which is not installed there.

    python -m rescoldo.image.unpacked FOLDER

runs in a container of the base, and so imports the standard library alone.
"""

from __future__ import annotations

import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Iterable
from pathlib import Path

from rescoldo.image.bases import MINOR, BasePython, packages_folder
from rescoldo.image.layers import Entry
from rescoldo.image.software import install, software


def own_python() -> BasePython:
    """Return the Python that runs this, as one of a base."""
    stdlib = Path(sysconfig.get_path("stdlib"))
    left_out = ("site-packages", "dist-packages")
    modules = {
        str(path).removeprefix("/"): path.read_bytes()
        for path in sorted(stdlib.rglob("*.py"))
        if path.relative_to(stdlib).parts[0] not in left_out
    }
    prefix = sys.base_prefix.removeprefix("/")
    return BasePython(f"{prefix}/bin/python{MINOR}", packages_folder(prefix, modules), modules)


def write_folder(entries: Iterable[Entry], folder: Path) -> None:
    """Write `entries` below `folder`. Raises OSError."""
    for entry in entries:
        path = folder / entry.path
        path.parent.mkdir(parents=True, exist_ok=True)
        if entry.is_folder:
            path.mkdir(exist_ok=True)
        elif isinstance(entry.content, bytes):
            path.write_bytes(entry.content)
        else:
            shutil.copyfile(entry.content, path)
        path.chmod(entry.mode)


def main() -> int:
    with tempfile.TemporaryDirectory() as work:
        installed = Path(work) / "packages"
        install(installed, print)
        write_folder(software(installed, own_python()), Path(sys.argv[1]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
