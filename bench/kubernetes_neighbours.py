"""Measures cold calls to one function after another while 200 others wake on the same worker, or one spins or
forks without end there."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import vegeta
from kubernetes_cell import Cell, CellMeasurement
from rows import Bar, MeasurementFailed, Row, quantile, say
from support.gateway import HELLO
from vegeta import Hit

OTHERS = 200
PROBES = 40
RESTS = 4  # rounds at rest
PAUSE = 0.03  # seconds between two probes, so that they are not a load of their own
RATE = 40  # wakes a second
BESIDE = 120  # probes beside a function that spins
PROCESSES = 32
SPINS = (
    "import os\n\n\ndef handle(event, context):\n"
    f"    for _ in range({PROCESSES - 1}):\n        if not os.fork():\n            break\n"
    "    while True:\n        pass\n"
)

FORKS = "import os\n\n\ndef handle(event, context):\n    while True:\n        os.fork()\n"

Times = list[float]
Wake = Callable[[], list[Hit]]

ABOUT = f"cold calls while {OTHERS} other functions wake on the same worker"
AT_ONCE = Bar(f"{ABOUT}, all at once: p95 ÷ that at rest", "", most=2.5)
EVENLY = Bar(f"{ABOUT}, {RATE} a second: p95 ÷ that at rest", "")
SPINNING = Bar(
    f"cold calls while a function spins in {PROCESSES} processes on the same worker: p95 ÷ that at rest", "", most=3
)

FORKING = Bar("cold calls while a fork bomb is called on the same worker: p95 ÷ that at rest", "", most=3)


def measure(cell: Cell, quick: bool) -> list[Row]:
    bursts, waves = (3, 1) if quick else (8, 2)
    probes, others = ([f"{kind}-{number}" for number in range(count)] for kind, count in
                      (("probe", PROBES), ("other", OTHERS)))  # fmt: skip
    urls = [cell.url(name) for name in others]
    cell.workers(1)
    cell.upload("neighbour:bench", HELLO)
    with cell.deployed({name: {"image": "neighbour:bench"} for name in (*probes, *others)}):
        for name in (*probes, *others):  # fetches them
            cell.get(name)
        rest: Times = []
        for _ in range(RESTS):
            cell.sleep_all([*probes, *others])
            rest += _probed(cell, probes, lambda: False)[1]
        say(f"neighbours: at rest p95 {quantile(rest, 0.95) * 1000:.1f} ms")
        once = _together(cell, probes, others, bursts, lambda: vegeta.all_at_once(urls, OTHERS, cell.folder))
        evenly = _together(cell, probes, others, waves, lambda: vegeta.one_after_another(urls, RATE, cell.folder))
        cell.sleep_all([*probes, *others])
        beside = _beside_spins(cell, probes, others[:BESIDE])
        cell.sleep_all([*probes, *others])
        bombed = _beside_bomb(cell, others[:BESIDE])
    base = quantile(rest, 0.95)
    return [
        bar.row(
            quantile(found, 0.95) / base,
            f"{quantile(found, 0.95) * 1000:.1f} ms ({len(found)} calls in {rounds} rounds) against "
            f"{base * 1000:.1f} ms ({len(rest)} calls); p50 {quantile(found, 0.5) * 1000:.1f} against "
            f"{quantile(rest, 0.5) * 1000:.1f} ms; calls to sleeping functions, one at a time, {PAUSE * 1000:.0f} ms "
            "apart, through the gateway to one worker",
        )
        for bar, found, rounds in ((AT_ONCE, once, bursts), (EVENLY, evenly, waves), (SPINNING, beside, 1),
                                   (FORKING, bombed, 1))
    ]


def _together(cell: Cell, probes: list[str], others: list[str], rounds: int, wake: Wake) -> Times:
    """Return the seconds of the probes that began while the others woke."""
    found: Times = []
    for number in range(rounds):
        cell.sleep_all([*probes, *others])
        with ThreadPoolExecutor(1) as thread:
            waking = thread.submit(wake)
            starts, times = _probed(cell, probes, waking.done)
            hits = waking.result()
        if failed := vegeta.failures(hits):
            raise MeasurementFailed(failed)
        begin = vegeta.begin(cell.folder)
        end = begin + max(hit.ended for hit in hits)
        among = [took for start, took in zip(starts, times, strict=True) if begin <= start <= end]
        found += among
        say(f"neighbours: round {number + 1}/{rounds}: {len(hits)} woke within {end - begin:.2f} s, meanwhile "
            f"{len(among)} probes of {max(among, default=0) * 1000:.0f} ms at most")  # fmt: skip
    return found


def _beside_spins(cell: Cell, first: list[str], names: list[str]) -> Times:
    """Return the seconds of calls to `names` beside a function that spins, after calls to `first`, in which the worker
    notices it. All are asleep."""
    cell.upload("spins:bench", SPINS)
    spec = {"image": "spins:bench", "envVars": {"exec_timeout": "45s"}}  # its removal waits for its call
    with ThreadPoolExecutor(1) as thread:
        with cell.deployed({"spins": spec}):
            spinning = thread.submit(cell.invoke, "spins", "", timeout=300)
            cell.until(lambda: cell.replicas("spins") == 1, "the function to spin")
            _probed(cell, first, spinning.done)
            _, times = _probed(cell, names, spinning.done)
        spinning.exception()  # its removal has ended it
    if len(times) < len(names):
        raise MeasurementFailed("the function ended that was to spin")
    say(f"neighbours: beside one that spins p95 {quantile(times, 0.95) * 1000:.1f} ms")
    return times


def _beside_bomb(cell: Cell, names: list[str]) -> Times:
    """Return the seconds of calls to `names`, which are asleep, while a fork bomb is called again and again."""
    cell.upload("forks:bench", FORKS)
    stop = threading.Event()

    def attack() -> int:
        calls = 0
        while not stop.is_set():
            with suppress(OSError):
                cell.invoke("forks", "", timeout=60)
            calls += 1
        return calls

    with ThreadPoolExecutor(1) as thread, cell.deployed({"forks": {"image": "forks:bench"}}):
        attacking = thread.submit(attack)
        try:
            _, times = _probed(cell, names, attacking.done)
        finally:
            stop.set()
        calls = attacking.result()
    say(f"neighbours: beside {calls} fork bombs p95 {quantile(times, 0.95) * 1000:.1f} ms")
    return times


def _probed(cell: Cell, probes: list[str], ended: Callable[[], bool]) -> tuple[Times, Times]:
    """Call probes until all were called or others have `ended`; return when each began, and its seconds."""
    starts, times = [], []
    for name in probes:
        if ended():
            break
        starts.append(time.time())
        times.append(cell.cold(name).seconds)
        time.sleep(PAUSE)  # a part of the measurement
    return starts, times


MEASUREMENT = CellMeasurement("neighbours", (AT_ONCE, EVENLY, SPINNING, FORKING), measure, ("go",))
