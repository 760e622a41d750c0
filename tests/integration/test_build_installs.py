"""The real installer, with the real package index where it can be reached."""

import os
import select
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import pytest

from rescoldo.bundle.build import BuildRequest, build
from rescoldo.bundle.deps import find_uv, installer_command
from rescoldo.bundle.installer import run_installer
from rescoldo.model.errors import BuildFailed
from rescoldo.model.ids import BUILD_UID


@pytest.mark.slow
def test_a_command_runs_in_its_folder_and_its_lines_arrive(tmp_path):
    lines = []
    code = "import os; print(os.getcwd()); open('made', 'w').close(); raise SystemExit(3)"
    assert run_installer([sys.executable, "-c", code], tmp_path, lines.append) == 3
    assert lines == [str(tmp_path)] and (tmp_path / "made").exists()


@pytest.mark.slow
@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_as_root_the_installer_runs_as_another_user_without_homes_and_secrets(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    lines = []
    with tempfile.NamedTemporaryFile(dir=Path.home()) as private:
        code = f"import os; print(os.getuid(), os.path.exists({private.name!r}), os.environ['HOME'])"
        code += "; print('AWS_SECRET_ACCESS_KEY' in os.environ)"
        assert run_installer([sys.executable, "-c", code], tmp_path, lines.append) == 0
    assert lines == [f"{BUILD_UID} False {tmp_path}/home", "False"]


@pytest.mark.slow
def test_without_root_the_installer_runs_as_the_caller(tmp_path, monkeypatch):
    for module in ("rescoldo.bundle.installer", "rescoldo.isolation.run"):
        monkeypatch.setattr(f"{module}.level", lambda: "unprivileged")
    monkeypatch.setattr("rescoldo.bundle.installer.os.geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", str(tmp_path))
    lines = []
    code = "import os; print(os.environ['HOME'])"
    assert run_installer([sys.executable, "-c", code], tmp_path, lines.append) == 0
    assert lines == [str(tmp_path)]


def test_a_root_that_cannot_drop_its_rights_installs_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("rescoldo.bundle.installer.level", lambda: "unprivileged")
    monkeypatch.setattr("rescoldo.bundle.installer.os.geteuid", lambda: 0)
    with pytest.raises(BuildFailed, match="never installs packages as root"):
        run_installer([sys.executable, "-c", ""], tmp_path, lambda line: None)


@pytest.mark.slow
def test_an_installation_that_hangs_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr("rescoldo.bundle.installer.TIMEOUT", 0.5)
    with pytest.raises(BuildFailed, match=r"took longer than 0\.5 seconds"):
        run_installer([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path, lambda line: None)


@pytest.mark.slow
@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_processes_that_an_installation_leaves_are_killed(tmp_path):
    code = (
        "import subprocess, sys;"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], start_new_session=True,"
        " stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL); print(p.pid)"
    )
    lines = []
    assert run_installer([sys.executable, "-c", code], tmp_path, lines.append) == 0
    # the pidfd becomes readable when the process has ended, also if it is not our child
    try:
        left = os.pidfd_open(int(lines[0]))
    except ProcessLookupError:
        return
    with os.fdopen(left) as descriptor:
        assert select.select([descriptor], [], [], 10)[0]


@pytest.mark.slow
@pytest.mark.parametrize("installer", ["uv", "pip"])
def test_a_requirement_from_the_index_can_be_imported_from_the_bundle(tmp_path, monkeypatch, installer):
    if installer == "pip":
        monkeypatch.setattr("rescoldo.bundle.deps.find_uv", lambda: None)
    elif find_uv() is None:
        pytest.skip("there is no uv here")
    folder = tmp_path / "hello"
    folder.mkdir()
    (folder / "handler.py").write_text("import idna\ndef handle(event, context):\n    return idna.__file__\n")
    (folder / "requirements.txt").write_text("idna==3.10\n")
    lines = []
    request = BuildRequest("hello", "python3-http", "http", folder, tmp_path)
    try:
        bundle = build(request, tmp_path / "build/hello", lines.append, run_installer, tmp_path / "cache")
    except BuildFailed as error:
        plain = installer_command(folder / "requirements.txt", tmp_path / "plain")
        if subprocess.run(plain, check=False, timeout=300).returncode == 0:
            raise
        pytest.skip(f"the package index is out of reach: {error.message[-200:]}")
    assert lines[0] == f"installing 1 requirement(s) with {installer}"
    target = tmp_path / "unpacked"
    for archive in (bundle.path, bundle.layer.path):
        with tarfile.open(archive) as tar:
            assert {member.uid for member in tar} == {0}
            tar.extractall(target, filter="data")
    code = "import sys; sys.path[:0] = ['.', 'deps']; from function.handler import handle; print(handle(1, 2))"
    done = subprocess.run([sys.executable, "-I", "-c", code], cwd=target, capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("deps/idna/__init__.py")
