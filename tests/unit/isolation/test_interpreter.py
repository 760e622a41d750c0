"""The Python of functions: an empty virtual environment of this Python."""

import json
import os
import subprocess
import sys

from rescoldo.isolation.interpreter import function_directories, make_environment, platform_directories

PROBE = "import importlib.metadata as m, json, sys; print(json.dumps([sys.prefix, sys.version, sys.path, len(list(m.distributions()))]))"  # noqa: E501


def test_the_environment_is_this_python_without_packages(tmp_path):
    python = make_environment(tmp_path / "python")
    done = subprocess.run([python, "-I", "-c", PROBE], capture_output=True, text=True, check=True)
    prefix, version, path, packages = json.loads(done.stdout)
    assert prefix == str(tmp_path / "python") and version == sys.version and packages == 0
    assert path and not [entry for entry in path if "packages" in entry]


def test_any_user_may_run_the_environment_whatever_the_umask(tmp_path):
    before = os.umask(0o077)
    try:
        make_environment(tmp_path / "python")
    finally:
        os.umask(before)
    assert {oct(p.stat().st_mode & 0o777) for p in (tmp_path / "python", tmp_path / "python" / "bin")} == {"0o755"}
    assert (tmp_path / "python" / "pyvenv.cfg").stat().st_mode & 0o777 == 0o644


def test_an_existing_environment_is_kept_unless_it_is_of_another_python(tmp_path):
    folder = tmp_path / "python"
    make_environment(folder)
    first = folder.stat().st_ino
    make_environment(folder)
    assert folder.stat().st_ino == first
    (folder / "pyvenv.cfg").write_text("home = /nowhere\n")
    make_environment(folder)
    assert folder.stat().st_ino != first and list(tmp_path.iterdir()) == [folder]


def test_functions_need_none_of_the_platforms_directories(tmp_path):
    needed = function_directories(tmp_path)
    assert not [path for path in platform_directories() if path in needed]
