from __future__ import annotations

import asyncio
import logging

import pytest

from rescoldo.control.fleet.slots import SlotPool
from rescoldo.edge.config import port_slot_names, slot_names
from rescoldo.model.errors import Busy
from rescoldo.tasks import Tasks


def test_the_longest_unused_slot_is_lent_first() -> None:
    pool = SlotPool(slot_names(3))
    first = pool.take()
    pool.give_back(first)
    assert [pool.take() for _ in range(3)] == ["s1", "s2", first]


def test_no_slot_is_lent_twice_and_an_empty_pool_is_busy() -> None:
    pool = SlotPool(slot_names(2))
    assert len({pool.take(), pool.take()}) == 2
    with pytest.raises(Busy):
        pool.take()
    pool.add(slot_names(4)[2:])
    assert (pool.take(), pool.free, pool.size) == ("s2", 1, 4)


def test_programs_at_tcp_ports_have_slots_of_their_own() -> None:
    scarce: list[bool] = []
    pool = SlotPool(slot_names(8), port_slot_names(8), lambda: scarce.append(True))
    taken = [pool.take(at_port=True) for _ in range(2)]
    assert taken == ["t0", "t1"]
    assert (pool.free, pool.size, scarce) == (8, 8, [])
    with pytest.raises(Busy):
        pool.take(at_port=True)
    assert scarce
    pool.give_back(taken[1])
    pool.claim(taken[1])
    pool.add([*slot_names(16)[8:], *port_slot_names(16)[2:]])
    assert (pool.take(at_port=True), pool.take(), pool.size) == ("t2", "s0", 16)


def test_a_claimed_slot_is_not_lent_and_cannot_be_claimed_again() -> None:
    pool = SlotPool(slot_names(2))
    pool.claim(slot_names(1)[0])
    assert pool.take() == "s1"
    with pytest.raises(ValueError, match="not in"):
        pool.claim(slot_names(1)[0])


def test_returning_a_slot_twice_raises() -> None:
    pool = SlotPool(slot_names(2))
    slot = pool.take()
    pool.give_back(slot)
    with pytest.raises(KeyError):
        pool.give_back(slot)


def test_each_loan_of_the_last_tenth_reports_scarcity() -> None:
    told: list[int] = []
    pool = SlotPool(slot_names(20), on_scarce=lambda: told.append(pool.free))
    for _ in range(20):
        pool.take()
    assert told == [2, 1]


async def test_a_task_that_ends_with_an_error_is_logged_by_name(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise ValueError("oh")

    tasks = Tasks()
    task = tasks.spawn("some work", fail())
    await asyncio.wait([task])
    await asyncio.sleep(0)
    assert [(r.levelno, r.getMessage()) for r in caplog.records] == [
        (logging.ERROR, "task some work ended unexpectedly")
    ]


async def test_closing_cancels_running_tasks_and_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    tasks = Tasks()
    task = tasks.spawn("endless", asyncio.Event().wait())
    await tasks.close()
    assert task.cancelled()
    assert caplog.records == []
