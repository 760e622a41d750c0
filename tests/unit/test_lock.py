"""The locked versions, which `make install` installs into .venv on any machine."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).parents[2]
IMAGE = "src/rescoldo/image/requirements.txt"
LOCKED = ("pyproject.toml", "uv.lock", "requirements-dev.txt", IMAGE)
PUBLIC = {"pypi.org", "files.pythonhosted.org"}
ADDRESS = re.compile(r"\w+://[^\s\"']+|file:[^\s\"']+")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder with the files that scripts/lock reads."""
    for name in (*LOCKED, "README.md", "LICENSE", "scripts/lock"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    return tmp_path


def check(clone: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([clone / "scripts/lock", "--check"], capture_output=True, text=True, timeout=60)


def replace(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def test_the_lock_fits_pyproject(clone: Path) -> None:
    done = check(clone)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("pyproject.toml", '"PyYAML>=6.0.2"', '"PyYAML>=7"', "uv.lock does not fit pyproject.toml"),
        ("pyproject.toml", '  "looptime>=0.4",\n', "", "uv.lock does not fit pyproject.toml"),
        ("requirements-dev.txt", "pyyaml==", "pyyaml>=", "requirements-dev.txt does not fit uv.lock"),
        (IMAGE, "pyyaml==", "pyyaml>=", f"{IMAGE} does not fit uv.lock"),
    ],
)
def test_files_that_disagree_are_refused(clone: Path, file: str, old: str, new: str, said: str) -> None:
    replace(clone / file, old, new)
    done = check(clone)
    assert done.returncode == 1
    assert f"{said}: run make lock" in done.stderr


@pytest.mark.parametrize("name", ["uv.lock", "requirements-dev.txt", IMAGE])
def test_only_the_public_index_is_named(name: str) -> None:
    addresses = ADDRESS.findall((ROOT / name).read_text())
    assert {urlsplit(address).netloc for address in addresses} <= PUBLIC
    assert [address for address in addresses if urlsplit(address).scheme != "https"] == []


@pytest.mark.parametrize("name", ["requirements-dev.txt", IMAGE])
def test_every_requirement_has_one_version_and_a_hash(name: str) -> None:
    lines = (ROOT / name).read_text().replace("\\\n", "").splitlines()
    pinned = re.compile(r"[\w.-]+==[\w.!+]+( ; [^-]+)? +--hash=sha256:[0-9a-f]{64}.*")
    assert [line for line in lines if not line.startswith("#") and not pinned.fullmatch(line)] == []


def test_the_package_itself_requires_ranges_of_versions() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"].values()
    needs = [*project["project"]["dependencies"], *(need for extra in extras for need in extra)]
    assert [need for need in needs if "==" in need.split(";")[0]] == []
