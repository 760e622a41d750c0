"""The kill matrix: each part, killed and stopped, at rest and under load. Only what was in flight in it may fail."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from live import Live
from matrix import report
from matrix.cells import CELLS, CHANGING_CELLS, SHARING_CELLS, Cell, Result, run
from matrix.world import World

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def results() -> Iterator[list[Result]]:
    """What the cells say; written down when the last one has been run."""
    found: list[Result] = []
    yield found
    report.write(found)


@pytest.fixture(scope="module")
def changing_results() -> Iterator[list[Result]]:
    """The same of the cells in which the number of instances changes."""
    found: list[Result] = []
    yield found
    report.write_changing(found)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with Live() as live:
        world = World(live)
        world.prepare()
        yield world


def strike(world: World, results: list[Result], cell: Cell) -> None:
    """Strike, and fail for what should not have failed."""
    result = asyncio.run(run(world, cell))
    results.append(result)
    assert result.failed_outside == 0, "\n".join(result.failures)


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_only_what_was_in_flight_in_it_may_fail(world: World, results: list[Result], cell: Cell) -> None:
    world.settle()
    strike(world, results, cell)


@pytest.mark.parametrize("cell", CHANGING_CELLS, ids=str)
def test_while_instances_come_and_go_the_same_holds_and_their_number_is_right_again(
    world: World, changing_results: list[Result], cell: Cell
) -> None:
    world.settle_to_change()
    strike(world, changing_results, cell)


@pytest.mark.parametrize("cell", SHARING_CELLS, ids=str)
def test_an_acknowledged_split_or_rollback_stays_and_nothing_else_answers(
    world: World, changing_results: list[Result], cell: Cell
) -> None:
    world.settle_to_share()
    strike(world, changing_results, cell)
