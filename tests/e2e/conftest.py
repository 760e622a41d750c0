"""One platform for all tests of a file that only use it; tests that break their platform start their own."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostile import report
from support.leftovers import pytest_sessionfinish, pytest_sessionstart  # noqa: F401  hooks
from support.live import Live
from support.user import User


@pytest.fixture(scope="module")
def platform() -> Iterator[Live]:
    with Live() as live:
        yield live


@pytest.fixture
def own_platform() -> Iterator[Live]:
    with Live() as live:
        yield live


@pytest.fixture
def user() -> Iterator[User]:
    home = Path(tempfile.mkdtemp(prefix="rl-home-", dir="/tmp"))
    found = User(home)
    try:
        yield found
    finally:
        found.run("down")
        shutil.rmtree(home, ignore_errors=True)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how many attacks of the hostile suite were refused, if it ran."""
    for line in report.summary():
        terminalreporter.write_line(line)
