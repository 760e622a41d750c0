"""One platform for all tests of a file that only use it; those that break it start their own."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from live import Live
from user import User


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
