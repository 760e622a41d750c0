"""Measures cold starts with and without other functions that print blank lines in an endless loop, in turn."""

from __future__ import annotations

from client import get_ok
from cold import cold_call, deploy
from processes import sleep_all, wait_calm
from rows import Bar, Measurement, Row, quantile, say
from support.live import Live

FLOODS = 3
FUNCTIONS = 100
# blank lines cost the log's reader most: the cost is per line, whatever its length
PRINTS = """
import os, threading

printing = threading.Event()

def flood():
    while printing.wait():
        os.write(1, b"\\n" * 4096)

threading.Thread(target=flood, daemon=True).start()

def handle(event, context):
    printing.set() if event.path == "/on" else printing.clear()
    return "ok"
"""
AWAKE = {"rescoldo.dev/idle-window": "1h"}

RATIO = Bar(f"{FLOODS} functions print blank lines as fast as they can: others' cold start p99 ÷ without them", "",
            most=3.0)  # fmt: skip
P50 = Bar("the same, p50 ÷ without them", "")


def measure(quick: bool) -> list[Row]:
    """Alternate rounds without and with the printing functions."""
    rounds = 2 if quick else 5
    names = [f"cold-{number}" for number in range(FUNCTIONS)]
    floods = [f"flood-{number}" for number in range(FLOODS)]
    times: dict[str, list[float]] = {"off": [], "on": []}
    with Live() as live:
        deploy(live, names)
        live.upload("flood:bench", PRINTS)
        for name in floods:
            live.deploy(name, image="flood:bench", annotations=AWAKE)
        for number in range(rounds):
            for state, found in times.items():
                sleep_all(live, [*names, *floods])
                wait_calm(live)
                for name in floods:
                    get_ok(live.port, f"/function/{name}/{state}")
                found += [cold_call(live, name).seconds * 1000 for name in names]
            last = ", ".join(f"{state} {quantile(found[-FUNCTIONS:], 0.99):.1f}" for state, found in times.items())
            say(f"flood: round {number + 1}/{rounds}: p99 {last} ms")
    how = f"{FUNCTIONS} functions one after another, {rounds} rounds of each in turn"
    return [_row(RATIO, times, 0.99, how), _row(P50, times, 0.5, how)]


def _row(bar: Bar, times: dict[str, list[float]], share: float, how: str) -> Row:
    on, off = (quantile(times[state], share) for state in ("on", "off"))
    return bar.row(on / off, f"{on:.1f} against {off:.1f} ms; {how}")


MEASUREMENT = Measurement("flood", (RATIO, P50), measure)
