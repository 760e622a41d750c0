""".ci/run: its steps, its summary and its time limit. Stand-ins replace its commands."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
STEPS = [
    "packages", "install", "test", "lint", "e2e", "matrix", "hostile", "cluster", "kubernetes", "demo", "bench",
    "newest",
]  # fmt: skip

pytestmark = pytest.mark.slow


class Checkout:
    """A folder with .ci/run, where tests define what `make TARGET` does and all commands exist."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in (".ci/run", "scripts/need"):
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
        self.bin = folder / "bin"
        self.bin.mkdir()
        for name in ("cc", "curl", "git", "go", "node", "wrk", "h2load"):
            self._command(name, "")
        self.make({})

    def make(self, targets: dict[str, str]) -> None:
        """Define each target in shell code; every other target prints that it is done."""
        cases = "".join(f"{name}) {does} ;;\n" for name, does in targets.items())
        self._command("make", f'case $1 in\n{cases}*) echo "$1 is done" ;;\nesac\n')

    def _command(self, name: str, text: str) -> None:
        file = self.bin / name
        file.write_text(f"#!/bin/sh\n{text}")
        file.chmod(0o755)

    def run(self, seconds: int = 100) -> tuple[int, dict[str, str], str]:
        """Run .ci/run; return its status, the summary's line of each step, and the whole output."""
        environment = {
            **os.environ,
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "RESCOLDO_CACHE": str(self.folder / "cache"),
            "RESCOLDO_CI_SECONDS": str(seconds),
        }
        done = subprocess.run(
            ["bash", ".ci/run"],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
        )
        _, _, summary = done.stdout.partition("\n=== summary")
        lines = [line for line in summary.splitlines()[1:] if line.split(" ")[0] in STEPS]
        return done.returncode, {line.split()[0]: line for line in lines}, done.stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_each_step_has_a_line_with_its_closing_words(checkout: Checkout) -> None:
    status, lines, output = checkout.run()
    assert status == 0, output
    assert list(lines) == STEPS
    assert re.fullmatch(r"test +ok +\d+ s  test is done", lines["test"])
    assert output.count("kill-matrix is done\n") == 2, "once in the step's output, once in the summary"
    assert "flaky" not in output.partition("=== summary")[2]


def test_a_failed_step_fails_the_run_and_the_others_still_run(checkout: Checkout) -> None:
    checkout.make({"lint": "echo 'a layer is broken'; exit 3"})
    status, lines, _ = checkout.run()
    assert status == 1
    assert re.fullmatch(r"lint +FAILED +\d+ s  a layer is broken", lines["lint"])
    assert list(lines) == STEPS


def test_a_failure_with_the_newest_versions_is_only_reported(checkout: Checkout) -> None:
    checkout.make({"newest": "echo '3 failed'; exit 1"})
    status, lines, output = checkout.run()
    assert status == 0, output
    assert re.fullmatch(r"newest +FAILED +\d+ s  3 failed \(only told\)", lines["newest"])


def test_flaky_tests_are_listed_and_do_not_fail_the_run(checkout: Checkout) -> None:
    checkout.make({"e2e": "echo 'flaky: tests/e2e/test_a.py::test_b[c d]'; echo '1 failed; 1 passed'"})
    status, _, output = checkout.run()
    assert status == 0, output
    assert output.endswith("=== flaky: failed, then passed alone\nflaky: tests/e2e/test_a.py::test_b[c d]\n")


@pytest.mark.parametrize("target", ["e2e", "kill-matrix", "hostile", "test-kubernetes-quick"])
def test_the_slower_suites_repeat_failed_tests(checkout: Checkout, target: str) -> None:
    checkout.make({target: f'echo "$2" >{target}'})
    checkout.run()
    assert (checkout.folder / target).read_text() == "PYTEST=.venv/bin/python scripts/repeat_failed.py\n"


def test_an_installation_is_tried_three_times(checkout: Checkout) -> None:
    checkout.make({"install": "echo x >>tries; [ $(wc -l <tries) = 3 ]"})
    assert checkout.run()[0] == 0
    (checkout.folder / "tries").unlink()
    checkout.make({"install": "echo x >>tries; exit 1"})
    status, lines, _ = checkout.run()
    assert (status, (checkout.folder / "tries").read_text()) == (1, "x\n" * 3)
    assert "FAILED" in lines["install"]


def test_the_run_ends_in_time_with_a_summary(checkout: Checkout) -> None:
    checkout.make({"test": "echo 'the first of it'; sleep 300"})
    begin = time.monotonic()
    status, lines, output = checkout.run(seconds=3)
    assert time.monotonic() - begin < 30
    assert status == 1
    assert re.fullmatch(r"test +FAILED +\d+ s  took longer than [123] s", lines["test"])
    assert "the first of it" in output
    assert [lines[name] for name in STEPS[3:-1]] == [f"{name:10} not run: out of time" for name in STEPS[3:-1]]


def test_a_process_left_behind_does_not_block_the_run(checkout: Checkout) -> None:
    checkout.make({"demo": "sleep 50 & echo $! >left; echo done"})
    begin = time.monotonic()
    status, _, output = checkout.run()
    os.kill(int((checkout.folder / "left").read_text()), 9)
    assert status == 0, output
    assert time.monotonic() - begin < 30


def test_a_step_can_be_interrupted_like_on_a_terminal(checkout: Checkout) -> None:
    checkout.make({"demo": "grep SigIgn /proc/self/status"})
    _, lines, _ = checkout.run()
    ignored = int(lines["demo"].split()[-1], 16)
    assert ignored & (1 << signal.SIGINT - 1 | 1 << signal.SIGQUIT - 1) == 0
