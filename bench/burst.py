"""Measures simultaneous first calls to many sleeping functions."""

from __future__ import annotations

import json
import statistics

import vegeta
from processes import sleep_all
from rows import Bar, Measurement, MeasurementFailed, Row, quantile, say
from support.gateway import HELLO
from support.live import Live
from vegeta import Hit

FEW, MANY = 200, 500

FEW_ERRORS = Bar(f"{FEW} simultaneous first calls to {FEW} sleeping functions, errors", "", most=0)
FEW_SECONDS = Bar(f"{FEW} simultaneous first calls to {FEW} sleeping functions, until all are answered", "s",
                  most=1.5)  # fmt: skip
MANY_ERRORS = Bar(f"{MANY} simultaneous first calls to {MANY} sleeping functions, errors", "", most=0)
MANY_P95 = Bar(f"{MANY} simultaneous first calls to {MANY} sleeping functions, p95", "s", most=1.8)
MANY_RATE = Bar(f"{MANY} simultaneous first calls to {MANY} sleeping functions, wakes a second", "", least=250)
FIRST_RATE = Bar("the same, the first burst of a platform, which finds six spares: wakes a second", "")
FORKED_RATE = Bar("the same without any spares: wakes a second", "")


def measure_few(quick: bool) -> list[Row]:
    rounds = _rounds(FEW, 2 if quick else 5)
    times, (how, errors) = [_last(hits) for hits in rounds], _told(rounds)
    return [
        FEW_ERRORS.row(errors, how),
        FEW_SECONDS.row(statistics.median(times), f"median, {min(times):.2f} to {max(times):.2f} s; {how}"),
    ]


def measure_many(quick: bool) -> list[Row]:
    first, *rounds = _rounds(MANY, 2 if quick else 6)
    forked = _rounds(MANY, 1 if quick else 3, spares=0, spares_memory=0)
    how, errors = _told(rounds)
    how += "; the pool of spares has the size that earlier bursts gave it"
    late = [quantile([hit.seconds for hit in hits], 0.95) for hits in rounds]
    rates = [MANY / _last(hits) for hits in rounds]
    return [
        MANY_ERRORS.row(errors, how),
        MANY_P95.row(statistics.median(late), f"median of the rounds, {min(late):.2f} to {max(late):.2f} s; {how}"),
        MANY_RATE.row(
            statistics.median(rates), f"until the last is answered; median, {min(rates):.0f} to {max(rates):.0f}; {how}"
        ),
        FIRST_RATE.row(MANY / _last(first), f"{_errors(first)} errors; one round"),
        FORKED_RATE.row(
            statistics.median(MANY / _last(hits) for hits in forked),
            f"serve --spares 0 --spares-memory 0; {_told(forked)[0]}",
        ),
    ]


def _rounds(count: int, rounds: int, **settings: int) -> list[list[Hit]]:
    """Return the calls of each round; all spares are ready before a round. Raises MeasurementFailed if a function
    was awake."""
    names = [f"burst-{number}" for number in range(count)]
    found = []
    with Live(**settings) as live:
        live.upload("burst:bench", HELLO)
        for name in names:
            live.deploy(name, image="burst:bench")
        urls = [f"http://127.0.0.1:{live.port}/function/{name}" for name in names]
        for number in range(rounds):
            sleep_all(live, names)
            live.until(lambda: _is_full(live), "the spares to be made", 300)
            hits = vegeta.all_at_once(urls, count, live.folder)
            if warm := sum(not hit.error and not hit.cold for hit in hits):
                raise MeasurementFailed(f"{warm} functions were not asleep")
            found.append(hits)
            say(f"burst: {count}, round {number + 1}/{rounds}: {_last(hits):.2f} s, {_errors(hits)} errors")
    return found


def _is_full(live: Live) -> bool:
    pool = json.loads(live.system("GET", "/status").text)["spares"]
    return bool(pool["ready"] >= pool["wanted"])


def _told(rounds: list[list[Hit]]) -> tuple[str, int]:
    """Describe the method and the failures; return the description and the number of failed calls."""
    hits = [hit for each in rounds for hit in each]
    first = f"; {vegeta.failures(hits)}" if _errors(hits) else ""
    return f"{len(rounds)} rounds, {len(hits)} calls in all, vegeta, a new connection a call{first}", _errors(hits)


def _errors(hits: list[Hit]) -> int:
    return sum(bool(hit.error) for hit in hits)


def _last(hits: list[Hit]) -> float:
    """Return the seconds from the first call to the last response."""
    return max(hit.ended for hit in hits)


MEASUREMENTS = (
    Measurement("burst", (FEW_ERRORS, FEW_SECONDS), measure_few, ("go",)),
    Measurement("burst500", (MANY_ERRORS, MANY_P95, MANY_RATE, FIRST_RATE, FORKED_RATE), measure_many, ("go",)),
)
