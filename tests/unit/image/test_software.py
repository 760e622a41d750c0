"""What an image has beyond its base."""

from __future__ import annotations

import importlib.util
import json
import marshal
import subprocess
import sys
from pathlib import Path

import pytest

import rescoldo
from rescoldo.image import software as module
from rescoldo.image.bases import MINOR, BasePython
from rescoldo.image.layers import Entry, write_layer
from rescoldo.image.software import configuration, install, software
from rescoldo.image.unpacked import own_python, write_folder
from rescoldo.model.errors import BuildFailed

LIB = f"usr/local/lib/python{MINOR}"
PACKAGES = f"{LIB}/site-packages"
PYTHON = BasePython(f"usr/local/bin/python{MINOR}", PACKAGES, {f"{LIB}/os.py": b"name = 'posix'\n"})
TAG = f"cpython-{MINOR.replace('.', '')}"

pytestmark = pytest.mark.slow  # it compiles all of rescoldo


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an installer leaves behind."""
    folder = tmp_path_factory.mktemp("installed")
    for name, text in {
        "click/__init__.py": "name = 'click'\n", "click/template.py": "this is {no} Python\n", "bin/uvicorn": "#!/x\n",
        "click/__pycache__/__init__.pyc": "", "click/bin/tool": "#!/bin/sh\n", ".lock": "",
        "click-8.dist-info/METADATA": "Name: click\n", "click-8.dist-info/RECORD": "../bin/x",
        "click-8.dist-info/INSTALLER": "uv",
    }.items():  # fmt: skip
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.fixture(scope="module")
def entries(installed: Path) -> dict[str, Entry]:
    return {entry.path: entry for entry in software(installed, PYTHON)}


def test_an_installer_s_notes_are_left_out(entries: dict[str, Entry]) -> None:
    theirs = {path.removeprefix(f"{PACKAGES}/") for path in entries if "/click" in path}
    assert theirs == {
        "click/__init__.py", f"click/__pycache__/__init__.{TAG}.pyc", "click/template.py", "click/bin/tool",
        "click-8.dist-info/METADATA",
    }  # fmt: skip


def test_all_of_rescoldo_is_there_and_compiled(entries: dict[str, Entry]) -> None:
    source = Path(rescoldo.__file__).parent
    ours = {path.relative_to(source.parent).as_posix() for path in source.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts}  # fmt: skip
    assert {f"{PACKAGES}/{name}" for name in ours} <= set(entries)
    assert f"{PACKAGES}/rescoldo/cli/__pycache__/main.{TAG}.pyc" in entries


@pytest.mark.parametrize(
    ("path", "source"),
    [(f"{LIB}/__pycache__/os.{TAG}.pyc", f"/{LIB}/os.py"),
     (f"{PACKAGES}/click/__pycache__/__init__.{TAG}.pyc", f"/{PACKAGES}/click/__init__.py")],
)  # fmt: skip
def test_a_compiled_module_is_never_checked_and_knows_its_place(
    entries: dict[str, Entry], path: str, source: str
) -> None:
    data = entries[path].content
    assert isinstance(data, bytes)
    assert data[:8] == importlib.util.MAGIC_NUMBER + b"\x01\x00\x00\x00"  # PEP 552: by hash, and not checked
    assert marshal.loads(data[16:]).co_filename == source


def test_its_command_runs_the_base_s_python(entries: dict[str, Entry]) -> None:
    command = entries["usr/local/bin/rescoldo"]
    assert command.mode == 0o755
    assert isinstance(command.content, bytes)
    assert command.content.startswith(f"#!/usr/local/bin/python{MINOR}\n".encode())


def test_any_uid_of_group_root_may_write_where_it_must(entries: dict[str, Entry]) -> None:
    assert (entries["data"].mode, entries["tmp"].mode) == (0o775, 0o1777)
    assert {oct(entry.mode) for path, entry in entries.items() if path not in ("data", "tmp")} == {"0o644", "0o755"}


def test_the_same_packages_give_the_same_layer(installed: Path, entries: dict[str, Entry], tmp_path: Path) -> None:
    first = write_layer(entries.values(), tmp_path / "1")
    again = write_layer(software(installed, PYTHON), tmp_path / "2")
    assert first.blob.digest == again.blob.digest


def test_an_installer_that_fails_is_told_with_its_last_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locked = tmp_path / "requirements.txt"
    locked.write_text(f"no-such-package-of-rescoldo==1 --hash=sha256:{'0' * 64}\n")
    monkeypatch.setattr(module, "REQUIREMENTS", locked)
    for name in ("UV_NO_INDEX", "PIP_NO_INDEX"):
        monkeypatch.setenv(name, "1")
    with pytest.raises(BuildFailed, match="no-such-package-of-rescoldo"):
        install(tmp_path / "packages", lambda _: None)


def test_a_base_s_other_version_of_a_package_is_hidden(installed: Path) -> None:
    names = frozenset({"click", "click-7.dist-info", "setuptools", "setuptools-1.dist-info", "README.txt"})
    python = BasePython(PYTHON.program, PACKAGES, {}, names)
    hidden = {entry.path for entry in software(installed, python) if "/.wh." in entry.path}
    assert hidden == {f"{PACKAGES}/.wh.click-7.dist-info", f"{PACKAGES}/click/.wh..wh..opq"}


def test_the_dockerfile_runs_the_same(entries: dict[str, Entry], tmp_path: Path) -> None:
    lines = (Path(__file__).parents[3] / "Dockerfile").read_text().splitlines()
    told = {line.partition(" ")[0]: line.partition(" ")[2] for line in lines}  # the last of each, the last stage's
    runs = configuration({})
    assert (told["USER"], told["WORKDIR"]) == (runs["User"], runs["WorkingDir"])
    assert (json.loads(told["ENTRYPOINT"]), json.loads(told["CMD"])) == (runs["Entrypoint"], runs["Cmd"])
    write_folder(entries.values(), tmp_path)
    written = {path.relative_to(tmp_path).as_posix(): path for path in tmp_path.rglob("*")}
    assert {path: oct(entry.mode) for path, entry in entries.items()} == {
        path: oct(written[path].stat().st_mode & 0o7777) for path in entries
    }


def test_the_dockerfile_s_base_needs_no_package_for_it() -> None:
    code = f"import sys; sys.path.append({str(Path(rescoldo.__file__).parents[1])!r}); import rescoldo.image.unpacked"
    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True)


def test_the_dockerfile_s_python_is_its_own() -> None:
    python = own_python()
    assert python.program == f"{sys.base_prefix}/bin/python{MINOR}".removeprefix("/")
    assert len(python.modules) > 400
    assert not [path for path in python.modules if "-packages/" in path]
