"""A run of tests fails if it leaves something in places that all platforms share, also with several workers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
LEAVES = """
from pathlib import Path

from support import leftovers

TABLES = Path(__file__).with_name("tables")  # a stand-in for what the kernel has
leftovers.PATIENCE = 0.1
leftovers.shared = lambda: set(TABLES.read_text().split())
leftovers.others = list

from support.leftovers import pytest_sessionfinish, pytest_sessionstart
"""


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("-p", "xdist", "-n", "2")], ids=["", "abreast"])
@pytest.mark.parametrize("left", ["", "rescoldo_left"])
def test_a_run_fails_if_its_tests_leave_something(tmp_path: Path, options: tuple[str, ...], left: str) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "conftest.py").write_text(LEAVES)
    (tmp_path / "tables").write_text("of_others")
    test = f"def test_leaves():\n    __import__('conftest').TABLES.write_text('of_others {left}')\n"
    (tmp_path / "test_leaves.py").write_text(test)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options],
        cwd=tmp_path,
        env={**kept, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": f"{TESTS}:{TESTS.parent / 'src'}"},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert "1 passed" in done.stdout, done.stdout + done.stderr
    assert (done.returncode, "left behind:\nrescoldo_left\n" in done.stdout) == ((1, True) if left else (0, False))
