"""A failed test is repeated once, alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "scripts/repeat_failed.py"

pytestmark = pytest.mark.slow

TESTS = """
import os
from pathlib import Path

import pytest

MARK = Path(__file__).with_name("mark")


def test_passes():
    with MARK.with_name("runs").open("a") as runs:
        runs.write("passes ")


@pytest.mark.parametrize("what", ["a b::c[d]"])
def test_fails_once(what):
    assert os.environ.get("RESCOLDO_TEST_REPEATED") == ("1" if MARK.exists() else None)
    first = not MARK.exists()
    MARK.touch()
    assert not first
"""
ALWAYS = "\n\ndef test_fails_always():\n    assert False\n"
FLAKY = "flaky: test_some.py::test_fails_once[a b::c[d]]\n"


def run(folder: Path, tests: str, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_some.py").write_text(tests)
    (folder / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, str(SCRIPT), "-q", *options, "test_some.py"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    kept["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # importing plugins takes longer than all else
    return subprocess.run(command, cwd=folder, env=kept, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("options", [(), ("-p", "xdist", "-n", "2", "--dist", "loadfile")], ids=["", "abreast"])
def test_a_test_that_passes_alone_is_flaky_and_the_suite_passes(tmp_path: Path, options: tuple[str, ...]) -> None:
    done = run(tmp_path, TESTS, *options)
    assert done.returncode == 0, done.stdout
    assert FLAKY in done.stdout
    assert done.stdout.endswith("1 failed; of these, repeated alone, 1 passed\n")
    assert (tmp_path / "runs").read_text() == "passes ", "a test that passed is not repeated"


def test_a_test_that_fails_again_fails_the_suite(tmp_path: Path) -> None:
    done = run(tmp_path, TESTS + ALWAYS)
    assert done.returncode == 1
    assert FLAKY in done.stdout
    assert done.stdout.endswith("2 failed; of these, repeated alone, 1 passed\n")


def test_if_many_tests_fail_none_is_repeated(tmp_path: Path) -> None:
    many = "import pytest\n\n\n@pytest.mark.parametrize('n', range(6))\ndef test_fails(n):\n    assert False\n"
    done = run(tmp_path, many)
    assert done.returncode == 1
    assert done.stdout.endswith("6 tests failed: more than 5, so none is repeated\n")


@pytest.mark.parametrize(
    ("tests", "status"), [("def test_passes(): pass\n", 0), ("import nowhere_at_all\n", 2), ("", 5)]
)
def test_any_other_exit_status_is_pytests_own(tmp_path: Path, tests: str, status: int) -> None:
    done = run(tmp_path, tests)
    assert done.returncode == status
    assert "repeated" not in done.stdout
