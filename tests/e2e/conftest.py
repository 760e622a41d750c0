"""One platform for all tests of a file that only use it; those that break it start their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from live import Live


@pytest.fixture(scope="module")
def platform() -> Iterator[Live]:
    with Live() as live:
        yield live


@pytest.fixture
def own_platform() -> Iterator[Live]:
    with Live() as live:
        yield live
