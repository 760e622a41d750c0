"""Measures simultaneous first calls to 300 sleeping functions on two workers."""

from __future__ import annotations

import statistics

import vegeta
from kubernetes_cell import Cell, CellMeasurement, spread
from rows import Bar, MeasurementFailed, Row, quantile, say
from support.gateway import HELLO
from vegeta import Hit

FUNCTIONS = 300
WORKERS = 2

ABOUT = f"{FUNCTIONS} functions woken at once on {WORKERS} workers"
NEW_ERRORS = Bar(f"{ABOUT}, just started: errors", "", most=0)
NEW_P95 = Bar(f"{ABOUT}, just started: p95", "s", most=2.5)
WARM_ERRORS = Bar(f"{ABOUT}, warmed up: errors", "", most=0)
WARM_P95 = Bar(f"{ABOUT}, warmed up: p95", "s", most=1.5)


def measure(cell: Cell, quick: bool) -> list[Row]:
    rounds = 1 if quick else 3
    names = [f"burst-{number}" for number in range(FUNCTIONS)]
    cell.workers(WORKERS)
    cell.upload("burst:bench", HELLO)
    with cell.deployed({name: {"image": "burst:bench"} for name in names}):
        new, warm = [], []
        for number in range(rounds):
            cell.new_workers()
            new.append(_burst(cell, names, f"just started, {number + 1}/{rounds}"))
        # a function that moved while weights rose is awake at its former owner, which nothing tells to stop it
        cell.new_workers()
        cell.workers(WORKERS)  # until that ramp has ended
        for name in names:  # each worker gets to know its functions
            cell.get(name)
        for number in range(rounds):
            cell.sleep_all(names)
            warm.append(_burst(cell, names, f"warmed up, {number + 1}/{rounds}"))
            if awake := sum(not hit.error and not hit.cold for hit in warm[-1]):
                raise MeasurementFailed(f"{awake} functions were not asleep")
        cell.sleep_all(names)
    return [
        *_rows(NEW_ERRORS, NEW_P95, new, "workers that have had none of the functions, as soon as both take calls"),
        *_rows(WARM_ERRORS, WARM_P95, warm, "workers that have had all functions awake before, at rest"),
    ]


def _burst(cell: Cell, names: list[str], which: str) -> list[Hit]:
    hits = vegeta.all_at_once([cell.url(name) for name in names], len(names), cell.folder)
    say(f"burst: {which}: p95 {_p95(hits):.2f}, all {max(hit.ended for hit in hits):.2f} s, {_errors([hits])} errors "
        f"{vegeta.failures(hits)}")  # fmt: skip
    return hits


def _rows(errors: Bar, p95: Bar, rounds: list[list[Hit]], workers: str) -> list[Row]:
    """The rows of bursts: errors of all, and the median of their p95."""
    times, last = [_p95(hits) for hits in rounds], [max(hit.ended for hit in hits) for hits in rounds]
    calls = sum(map(len, rounds))
    how = f"{len(rounds)} rounds, {calls} calls in all, vegeta on the host, a new connection a call; {workers}"
    failed = vegeta.failures(hit for hits in rounds for hit in hits)
    return [
        errors.row(_errors(rounds), how + (f"; {failed}" if failed else "")),
        p95.row(
            statistics.median(times), f"median, {spread(times, 2)} s; all answered after {spread(last, 2)} s; {how}"
        ),
    ]


def _p95(hits: list[Hit]) -> float:
    return quantile([hit.seconds for hit in hits], 0.95)


def _errors(rounds: list[list[Hit]]) -> int:
    return sum(bool(hit.error) for hits in rounds for hit in hits)


MEASUREMENT = CellMeasurement("burst", (NEW_ERRORS, NEW_P95, WARM_ERRORS, WARM_P95), measure, ("go",))
