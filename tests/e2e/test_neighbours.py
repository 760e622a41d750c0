"""Functions that crash in a loop, and functions with far more calls than they can take: others see no error, and the
platform stays small."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Iterator

import pytest

from matrix import report
from matrix.background import Calling
from matrix.neighbours import Meter, NeighbourResult, others, spares
from matrix.state import becomes_true
from matrix.world import World, prepared
from rescoldo.policy.spares import SHARE, most_spares

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

CRASHES = {
    "import": "print('begun')\nraise RuntimeError('it is broken')\ndef handle(event, context):\n    return ''\n",
    "ready": (
        "import os, threading\nprint('begun')\nthreading.Timer(0.05, os._exit, [3]).start()\n"
        "def handle(event, context):\n    return 'alive'\n"
    ),
    "call": "import os\nprint('begun')\ndef handle(event, context):\n    os._exit(3)\n",
}
CRASHING = 100
FREE_STARTS = 12  # of a function before pauses come between them: the longest is 2 s, or 10 s at import
SLEEPS = "import asyncio\nasync def handle(event, context):\n    await asyncio.sleep(0.1)\n    return 'slept'\n"
FLOOD = 300  # clients of one function
QUEUE = 50
MOST_GROWTH = 64 * 2**20  # bytes


@pytest.fixture(scope="module")
def results() -> Iterator[list[NeighbourResult]]:
    """Collect the effects on other functions; write them after the last test."""
    found: list[NeighbourResult] = []
    yield found
    report.write_neighbours(found)


@pytest.fixture
def world() -> Iterator[World]:
    with prepared() as world:
        yield world


def count(calling: Calling, kind: str) -> int:
    return sum(1 for call in calling.load.calls if call.end and call.kind == kind)


def test_no_function_misbehaves(world: World, results: list[NeighbourResult]) -> None:
    """The baseline for the other tests."""
    world.settle()
    meter = Meter(world)
    with others(world) as calling:
        world.live.until(lambda: count(calling, "cold") >= 150, "calls of others")
    assert calling.failures == []
    results.append(meter.result("none", "–", calling))


def test_a_hundred_functions_that_crash_in_a_loop_harm_no_others(world: World, results: list[NeighbourResult]) -> None:
    live = world.live
    for kind, code in CRASHES.items():
        live.upload(f"{kind}:test", code)
    kinds = {f"crash-{number}": list(CRASHES)[number % 3] for number in range(CRASHING)}
    for name, kind in kinds.items():
        live.deploy(name, image=f"{kind}:test")
    world.settle()
    log, meter = len(live.log()), Meter(world)
    with others(world) as calling:
        with Calling(world, lambda load: load.crowd(list(kinds), 1, pause=0.25)) as crowd:
            live.until(lambda: set(tallied(crowd)) == set(kinds), "a call of each of them", 120)
            live.until(lambda: min(tallied(crowd).values()) >= 2, "a second call of each of them", 120)
            live.until(lambda: count(calling, "cold") >= 150, "calls of others", 120)
            seconds = meter.seconds
        calling.more(50)
        results.append(meter.result(f"{CRASHING} functions crash in a loop", shares(crowd), calling))
    assert calling.failures == []
    starts = {name: live.function_log(name).count("begun") for name in kinds}
    assert min(starts.values()) > 1, "a function was not started again"
    assert max(starts.values()) <= FREE_STARTS + seconds, "a function was started without a pause"
    assert meter.grown < MOST_GROWTH
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert max(spares(world)) <= most_spares(memory // SHARE, live.settings.spares)
    assert len(live.log()) - log < 2**20
    assert max(file.stat().st_size for file in live.settings.logs.iterdir()) < 2 * 2**20
    for name in kinds:
        assert live.system("DELETE", "/functions", {"functionName": name}).status == 202
    asyncio.run(becomes_true(world, dict.fromkeys(kinds, 0), 30))


def tallied(crowd: Calling) -> Counter[str]:
    """Count the ended calls by function."""
    return Counter(call.function for call in crowd.load.calls if call.end)


def shares(crowd: Calling) -> str:
    """Describe the outcomes of the calls, the most frequent first."""
    answers = Counter(call.outcome for call in crowd.load.calls)
    return ", ".join(f"{status}: {100 * number / answers.total():.0f} %" for status, number in answers.most_common())


@pytest.mark.parametrize("most", [1, 4])
def test_a_function_with_far_more_calls_than_it_can_take_harms_no_others(
    world: World, results: list[NeighbourResult], most: int
) -> None:
    live, name = world.live, f"flooded-{most}"
    limits = {"concurrency": "1", "max-scale": str(most), "max-queue": str(QUEUE), "window": "6s"}
    live.deploy(name, SLEEPS, annotations={f"rescoldo.dev/{key}": value for key, value in limits.items()})
    world.settle()
    meter = Meter(world)
    with others(world) as calling:
        with Calling(world, lambda load: load.crowd([name], FLOOD, pause=0.5)) as crowd:
            live.until(lambda: any(call.outcome == "429" for call in crowd.load.calls), "its queue to be full")
            live.until(lambda: live.replicas(name) == most, f"{most} instances")
            live.until(lambda: tallied(crowd)[name] >= 3 * FLOOD, "its calls to end", 120)
            live.until(lambda: count(calling, "cold") >= 150, "calls of others", 120)
        calling.more(50)
        title = f"{FLOOD} clients call a function that takes {most} at once for 0.1 s each"
        results.append(meter.result(title, shares(crowd), calling))
    assert calling.failures == []
    assert {call.outcome for call in crowd.load.calls} == {"200", "429"}
    assert meter.grown < MOST_GROWTH
    assert live.system("DELETE", "/functions", {"functionName": name}).status == 202
    asyncio.run(becomes_true(world, {name: 0}, 30))
