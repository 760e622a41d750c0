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
    """What the cells say; written down when the last one has been run."""
    found: list[Result] = []
    yield found
    report.write_changing(found)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with prepared() as world:
        yield world


@pytest.mark.parametrize("cell", CHANGING_CELLS, ids=str)
def test_while_instances_come_and_go_the_same_holds_and_their_number_is_right_again(
    world: World, results: list[Result], cell: Cell
) -> None:
    world.settle_to_change()
    prove(world, results, cell)


@pytest.mark.parametrize("cell", SHARING_CELLS, ids=str)
def test_an_acknowledged_split_or_rollback_stays_and_nothing_else_answers(
    world: World, results: list[Result], cell: Cell
) -> None:
    world.settle_to_share()
    prove(world, results, cell)
