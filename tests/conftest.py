"""Fixtures for all tests."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator

import pytest

HANDLED = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGCHLD)

# looptime asks for the current loop around every sync test too. Before the first async test asyncio would make a loop
# for it that is never closed.
asyncio.set_event_loop(None)


@pytest.fixture(autouse=True)
def signals_as_before() -> Iterator[None]:
    """Fail if a test leaves a signal handler: every later test and its children would have it."""
    before = [signal.getsignal(number) for number in HANDLED]
    yield
    assert [signal.getsignal(number) for number in HANDLED] == before, f"a handler of one of {HANDLED} was left behind"
