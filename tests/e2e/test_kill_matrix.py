"""The kill matrix: each part, killed and stopped, at rest and under load. Only what was in flight in it may fail."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from live import Live
from matrix import report
from matrix.cells import CELLS, Cell, Result, run
from matrix.world import World

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def results() -> Iterator[list[Result]]:
    """What the cells say; written down when the last one has been run."""
    found: list[Result] = []
    yield found
    report.write(found)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with Live() as live:
        world = World(live)
        world.prepare()
        yield world


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_only_what_was_in_flight_in_it_may_fail(world: World, results: list[Result], cell: Cell) -> None:
    world.settle()
    result = asyncio.run(run(world, cell))
    results.append(result)
    assert result.failed_outside == 0, "\n".join(result.failures)
