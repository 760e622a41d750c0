#!/usr/bin/env python3
"""Runs pytest in CI and repeats each failed test once, alone.

    python scripts/repeat_failed.py PYTEST-ARGUMENT...

Exits with 0 if every repeated test passed. Such a test is flaky: a line `flaky: TEST` names each of them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

MOST = 5  # maximum of repeated tests: more failures are no accident
FAILED = 1  # pytest's status after a complete run with failed tests; any other one means that the run itself failed
REPEATED = "RESCOLDO_TEST_REPEATED"  # set for a repeated test, whose report belongs to the earlier run


def main(arguments: list[str]) -> int:
    with tempfile.TemporaryDirectory(prefix="repeat-failed-") as cache:
        status = pytest("-o", f"cache_dir={cache}", *arguments)
        failed = last_failed(Path(cache))
    if status != FAILED or not failed:
        return status
    if len(failed) > MOST:
        print(f"{len(failed)} tests failed: more than {MOST}, so none is repeated")
        return status
    passed = [test for test in failed if repeat(test)]
    for test in passed:
        print(f"flaky: {test}")
    print(f"{len(failed)} failed; of these, repeated alone, {len(passed)} passed", flush=True)
    return 0 if passed == failed else status


def pytest(*arguments: str, **environment: str) -> int:
    command = [sys.executable, "-m", "pytest", *arguments]
    return subprocess.run(command, env=os.environ | environment, check=False).returncode


def last_failed(cache: Path) -> list[str]:
    """Return the ids of the failed tests from pytest's cache."""
    try:
        return list(json.loads((cache / "v/cache/lastfailed").read_text()))
    except FileNotFoundError:
        return []


def repeat(test: str) -> bool:
    print(f"\n--- repeated alone: {test}", flush=True)
    return pytest("-p", "no:cacheprovider", test, **{REPEATED: "1"}) == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
