"""The kill matrix: each part, killed and stopped, at rest and under load. Only calls in flight in it may fail."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from matrix import report
from matrix.cells import CELLS, Cell, Result, prove
from matrix.world import World, prepared

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def results() -> Iterator[list[Result]]:
    """Collect the results of the cells; write them after the last one."""
    found: list[Result] = []
    yield found
    report.write(found)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with prepared() as world:
        yield world


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_only_calls_in_flight_in_the_struck_part_fail(world: World, results: list[Result], cell: Cell) -> None:
    world.settle()
    prove(world, results, cell)
