#!/usr/bin/env python3
"""pytest in CI: tests that fail are repeated once, each alone.

    python scripts/repeat_failed.py PYTEST-ARGUMENT...

Ends with 0 when each of them passed alone. They are flaky: a line `flaky: TEST` for each of them says so.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

MOST = 5  # tests repeated; where more fail it is no accident
FAILED = 1  # pytest's status when tests ran and some failed; any other says that the run itself went wrong
REPEATED = "RESCOLDO_TEST_REPEATED"  # set for a repeated test: what it reports belongs to the run before


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
    """The ids of the tests that failed, as pytest's cache has them."""
    try:
        return list(json.loads((cache / "v/cache/lastfailed").read_text()))
    except FileNotFoundError:
        return []


def repeat(test: str) -> bool:
    print(f"\n--- repeated alone: {test}", flush=True)
    return pytest("-p", "no:cacheprovider", test, **{REPEATED: "1"}) == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
