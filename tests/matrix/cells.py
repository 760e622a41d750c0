"""Runs one cell of the matrix: load, fault and recovery, as the clients see them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from dataclasses import dataclass

from matrix.client import Call
from matrix.faults import (
    CHANGING_TARGETS,
    FAULTS,
    SHARING_TARGETS,
    TARGETS,
    Struck,
    Target,
    is_replaced,
    one_instance,
    strike,
)
from matrix.load import LOADS, ROLLOUT, SCALING, SHARING, Load
from matrix.state import becomes_true
from matrix.world import AGAIN, ASLEEP, GROWS, MANY, ROLLED, ROLLED_BACK, SHRINKS, SPLIT, WARM, World

PATIENCE = 40.0  # seconds until everything must be served again
CALLS_AFTER = 60  # further calls, which show that recovery lasts
MOST_SHOWN = 10


@dataclass(frozen=True)
class Cell:
    target: Target
    fault: str
    load: str

    def __str__(self) -> str:
        return f"{self.target.name}, {self.fault}, {self.load}"


@dataclass(frozen=True)
class Result:
    """The outcome of a cell; times in seconds."""

    target: str
    fault: str
    load: str
    requests: int
    failed_inside: int  # in flight in the struck part
    failed_outside: int  # all other failures
    failed_warm: int  # of these: warm calls elsewhere
    stall: float | None  # the longest warm call elsewhere; None without such calls
    served_after: float  # from the signal until everything is served and the struck part is replaced
    failures: tuple[str, ...]  # some of the failures outside
    true_after: float | None = None  # from the signal until the numbers of instances and servers are right


# Targets take turns: a part that is killed twice within seconds restarts with a back-off.
CELLS = tuple(Cell(target, fault, load) for fault in FAULTS for load in LOADS for target in TARGETS)

CHANGING = {SCALING: GROWS, ROLLOUT: ROLLED}  # by load: the function that loses an instance
NUMBERS = {  # of instances while there are calls
    SCALING: {GROWS: MANY, SHRINKS: 1},
    ROLLOUT: {ROLLED: 1},
    SHARING: {SPLIT: 2, ROLLED_BACK: 1},
}
CHANGING_CELLS = tuple(
    Cell(target, fault, load)
    for fault in FAULTS
    for load, victim in CHANGING.items()
    for target in (*CHANGING_TARGETS, one_instance(victim))
)
SHARING_CELLS = tuple(Cell(target, "SIGKILL", SHARING) for target in SHARING_TARGETS)


def prove(world: World, results: list[Result], cell: Cell) -> None:
    """Run a cell and add its outcome to `results`; fail if a request outside the struck part failed."""
    result = asyncio.run(run(world, cell))
    results.append(result)
    assert result.failed_outside == 0, "\n".join(result.failures)


async def run(world: World, cell: Cell) -> Result:
    """Cause the fault under load and wait until everything is served again. Raises TimeoutError if that never
    happens, and AssertionError if the number of instances never becomes right."""
    load = Load(world)
    await load.start(cell.load)
    struck = strike(world, cell.target, FAULTS[cell.fault])
    true_at: float | None = None
    try:
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(is_replaced(world, cell.target, struck), *_probes(load))
        served = time.monotonic()
        await load.more(CALLS_AFTER)
        if (numbers := NUMBERS.get(cell.load)) is not None:
            load.settle()
            await load.check_changes()
            await becomes_true(world, numbers, PATIENCE)
            true_at = time.monotonic()
    finally:
        for pid in struck.pids:  # the platform did not notice that the part was stopped, and later cells need it
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        await load.stop()
    return _judge(cell, load, struck, served, true_at)


def _probes(load: Load) -> list[asyncio.Task[None]]:
    """Try what users do: call each warm function and a sleeping one, and deploy one."""

    async def until_it_works(name: str, kind: str) -> None:
        while True:
            call = Call(name, "GET", f"/function/{name}", kind)
            await load.once(call)
            if not call.failed:
                return
            await asyncio.sleep(0.02)

    async def until_deployed() -> None:
        while not await load.deploy(AGAIN):
            await asyncio.sleep(0.02)

    works = [until_it_works(name, "warm") for name in WARM]
    return [asyncio.create_task(work) for work in (*works, until_it_works(ASLEEP, "cold"), until_deployed())]


def _judge(cell: Cell, load: Load, struck: Struck, served: float, true_at: float | None) -> Result:
    failed = [call for call in load.calls if call.failed]
    inside = [call for call in failed if cell.target.inside(call, struck.strike, struck.down)]
    others = [call for call in failed if call not in inside]
    outside = [f"{call} (begun {call.begin - struck.strike:+.3f} s)" for call in others] + load.lost
    elsewhere = [
        call.end - call.begin
        for call in load.calls
        if call.kind == "warm" and cell.target.others(call) and call.end >= struck.strike and call.begin <= served
    ]
    return Result(
        target=cell.target.name,
        fault=cell.fault,
        load=cell.load,
        requests=len(load.calls),
        failed_inside=len(inside),
        failed_outside=len(outside),
        failed_warm=sum(call.kind in ("warm", "slow") and cell.target.others(call) for call in others),
        stall=round(max(elsewhere), 3) if elsewhere else None,
        served_after=round(served - struck.strike, 3),
        failures=tuple(outside[:MOST_SHOWN]),
        true_after=None if true_at is None else round(true_at - struck.strike, 3),
    )
