"""Simultaneous first calls to many functions that sleep."""

from __future__ import annotations

import statistics

from client import run_client
from live import HELLO, Live
from processes import sleep_all
from rows import Bar, Measurement, MeasurementFailed, Row, say

FUNCTIONS = 200

ERRORS = Bar(f"{FUNCTIONS} simultaneous first calls to {FUNCTIONS} sleeping functions, errors", "", most=0)
SECONDS = Bar(f"{FUNCTIONS} simultaneous first calls to {FUNCTIONS} sleeping functions, until all are answered", "s",
              most=1.5)  # fmt: skip


def measure(quick: bool) -> list[Row]:
    rounds = 2 if quick else 5
    names = [f"burst-{number}" for number in range(FUNCTIONS)]
    times: list[float] = []
    errors: list[str] = []
    with Live() as live:
        live.upload("burst:bench", HELLO)
        for name in names:
            live.deploy(name, image="burst:bench")
        for number in range(rounds):
            sleep_all(live, names)
            seen = run_client("burst_client.py", {"port": live.port, "names": names, "expected": "hello"}, 120)
            if seen["warm"]:
                raise MeasurementFailed(f"{seen['warm']} functions were not asleep")
            times.append(seen["seconds"])
            errors += seen["errors"]
            say(f"burst: round {number + 1}/{rounds}: {times[-1]:.2f} s, {len(seen['errors'])} errors")
    how = f"{rounds} rounds, one asyncio client in a process of its own, a new connection a call"
    first = f"; the first: {errors[0]}" if errors else ""
    return [
        ERRORS.row(len(errors), f"in all {rounds * FUNCTIONS} calls; {how}{first}"),
        SECONDS.row(statistics.median(times), f"median, {min(times):.2f} to {max(times):.2f} s; {how}"),
    ]


MEASUREMENT = Measurement("burst", (ERRORS, SECONDS), measure)
