"""The kill matrix while numbers of instances, revisions and shares of traffic change."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from matrix import report
from matrix.cells import CHANGING_CELLS, SHARING_CELLS, Cell, Result, prove
from matrix.world import World, prepared

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def results() -> Iterator[list[Result]]:
    """Collect the results of the cells; write them after the last one."""
    found: list[Result] = []
    yield found
    report.write_changing(found)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with prepared() as world:
        yield world


@pytest.mark.parametrize("cell", CHANGING_CELLS, ids=str)
def test_only_calls_in_flight_fail_while_instances_change_and_their_number_becomes_right(
    world: World, results: list[Result], cell: Cell
) -> None:
    world.settle_to_change()
    prove(world, results, cell)


@pytest.mark.parametrize("cell", SHARING_CELLS, ids=str)
def test_an_acknowledged_split_or_rollback_stays_and_no_other_revision_answers(
    world: World, results: list[Result], cell: Cell
) -> None:
    world.settle_to_share()
    prove(world, results, cell)
