"""The wheel that `pip install` installs: hatchling builds it from this checkout."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "rescoldo"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


@pytest.mark.slow
def test_the_wheel_has_every_file_of_the_package(wheel: Path) -> None:
    ours = {
        path.relative_to(SOURCE.parent).as_posix()
        for path in SOURCE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {"rescoldo/py.typed", "rescoldo/edge/haproxy.cfg.tmpl", "rescoldo/edge/wake.lua"} < ours
    assert ours <= set(zipfile.ZipFile(wheel).namelist())


@pytest.mark.slow
def test_the_wheel_is_typed_has_the_command_and_requires_pip(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        texts = {Path(name).name: archive.read(name).decode() for name in archive.namelist() if ".dist-info/" in name}
    assert "Classifier: Typing :: Typed" in texts["METADATA"]
    # pipx and uv make environments without pip, which installs requirements if there is no uv
    assert "Requires-Dist: pip>=" in texts["METADATA"]
    assert "rescoldo = rescoldo.cli.__main__:main" in texts["entry_points.txt"]
