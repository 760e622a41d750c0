"""A change is over once all workers have confirmed it; else the ones that have not are named."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from acknowledging import FN, OTHER, Cell, running, seconds_of

from rescoldo.cluster.acknowledgements import ACKNOWLEDGED_SECONDS
from rescoldo.link.protocol import SILENT_SECONDS, Report

pytestmark = pytest.mark.looptime


@pytest.fixture
def cell(tmp_path: Path) -> Cell:
    return Cell(tmp_path)


async def test_a_change_is_over_when_all_workers_have_it(cell: Cell) -> None:
    async with running(cell):
        await cell.worker("a")
        await cell.worker("b")
        await asyncio.sleep(ACKNOWLEDGED_SECONDS)
        await cell.deploy()
        took, late = await seconds_of(cell.acknowledgements.wait([FN, OTHER]))
        assert (took < 0.3, late) == (True, {})
        assert cell.acknowledgements.asked("openfaas-fn") == []


async def test_workers_that_do_not_confirm_are_named_after_five_seconds(cell: Cell) -> None:
    async with running(cell):
        for name in ("b", "a", "c"):
            await cell.worker(name, late={FN} if name != "c" else set())
        await asyncio.sleep(ACKNOWLEDGED_SECONDS)
        took, late = await seconds_of(cell.acknowledgements.wait([FN, OTHER]))
        assert took == pytest.approx(ACKNOWLEDGED_SECONDS, abs=0.01)
        assert late == {FN: ["a", "b"]}
        await asyncio.sleep(0.01)
        assert cell.acknowledgements.overdue() == [FN]


async def test_who_confirms_late_is_named_no_more(cell: Cell) -> None:
    async with running(cell):
        worker = await cell.worker("a", late={FN})
        await asyncio.sleep(ACKNOWLEDGED_SECONDS)
        await cell.acknowledgements.wait([FN])
        worker.late.clear()
        assert cell.acknowledgements.lagging(FN) == ["a"]
        await worker.kill()
        await worker.begin()  # the mark is repeated on the next stream
        await asyncio.sleep(0.2)
        assert cell.acknowledgements.lagging(FN) == []


async def test_a_mark_of_an_earlier_change_confirms_nothing(cell: Cell) -> None:
    async with running(cell):
        worker = await cell.worker("a", late={FN})
        await asyncio.sleep(ACKNOWLEDGED_SECONDS)
        cell.acknowledgements.ask(FN)
        earlier = cell.acknowledgements.mark(FN)
        waiting = asyncio.create_task(cell.acknowledgements.wait([FN]))
        await asyncio.sleep(0.1)
        await worker.report({FN: earlier})
        assert cell.acknowledgements.lagging(FN) == ["a"]
        await worker.report({FN: cell.acknowledgements.mark(FN)})
        assert await waiting == {}


async def test_workers_of_other_namespaces_and_those_that_left_or_fell_silent_are_not_waited_for(cell: Cell) -> None:
    async with running(cell, namespaces=("openfaas-fn", "blue")):
        await cell.worker("elsewhere", "blue", late={FN})
        leaving = await cell.worker("leaving", late={FN})
        killed = await cell.worker("killed", late={FN})
        await asyncio.sleep(ACKNOWLEDGED_SECONDS)
        await leaving.leave()
        await killed.kill()
        assert (await cell.acknowledgements.wait([FN])) == {FN: ["killed"]}
        await asyncio.sleep(SILENT_SECONDS)
        took, late = await seconds_of(cell.acknowledgements.wait([FN]))
        assert (took, late) == (0.0, {})


async def test_nobody_says_that_another_namespaces_worker_has_left(cell: Cell) -> None:
    async with running(cell, namespaces=("openfaas-fn", "blue")):
        await cell.worker("a", late={FN})
        await asyncio.sleep(ACKNOWLEDGED_SECONDS)
        await cell.pools["blue"].report(Report("a/1", {}, {}, {}, left=True))
        assert await cell.acknowledgements.wait([FN]) == {FN: ["a"]}


async def test_a_process_that_was_killed_is_not_waited_for_once_its_next_one_reports(cell: Cell) -> None:
    async with running(cell):
        killed = await cell.worker("a", late={FN})
        await asyncio.sleep(ACKNOWLEDGED_SECONDS)
        await killed.kill()
        assert await cell.acknowledgements.wait([FN]) == {FN: ["a"]}
        await killed.pool.report(Report("a/2", {}, {}, {}, {FN: cell.acknowledgements.mark(FN)}, earlier="a/1"))
        assert cell.acknowledgements.lagging(FN) == []


async def test_a_worker_that_leaves_meanwhile_holds_nobody_up(cell: Cell) -> None:
    async with running(cell):
        worker = await cell.worker("a", late={FN})
        await asyncio.sleep(ACKNOWLEDGED_SECONDS)
        waiting = asyncio.create_task(seconds_of(cell.acknowledgements.wait([FN])))
        await asyncio.sleep(1)
        await worker.leave()
        took, late = await waiting
        assert (took < 2, late) == (True, {})


async def test_a_control_that_has_just_begun_waits_for_workers_to_come_back(cell: Cell) -> None:
    async with running(cell):
        waiting = asyncio.create_task(seconds_of(cell.acknowledgements.wait([FN])))
        await asyncio.sleep(2)
        await cell.worker("a", late={FN})
        took, late = await waiting
        assert (round(took), late) == (ACKNOWLEDGED_SECONDS, {FN: ["a"]})


async def test_a_worker_of_an_earlier_version_counts_by_what_it_serves(cell: Cell) -> None:
    async with running(cell):
        worker = await cell.worker("old", knows_marks=False, late={FN})
        version = await cell.deploy()
        worker.served = {FN: version}
        await worker.report({})
        await asyncio.sleep(ACKNOWLEDGED_SECONDS)
        assert await cell.acknowledgements.wait([FN, OTHER]) == {}
        await cell.deploy(image="me/fn:2")
        assert await cell.acknowledgements.wait([FN]) == {FN: ["old"]}
        await cell.documents.delete(FN)
        assert await cell.acknowledgements.wait([FN]) == {FN: ["old"]}
        worker.served = {FN: 0}
        await worker.report({})
        assert cell.acknowledgements.lagging(FN) == []


async def test_two_that_wait_for_one_function_both_end(cell: Cell) -> None:
    async with running(cell):
        await cell.worker("a")
        await asyncio.sleep(ACKNOWLEDGED_SECONDS)
        both = await asyncio.gather(*(cell.acknowledgements.wait([FN]) for _ in range(2)))
        assert both == [{}, {}]
