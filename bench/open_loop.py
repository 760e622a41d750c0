"""Measures open-loop load, which does not wait for responses, from zero: Knative's own scenario, and a step."""

from __future__ import annotations

import vegeta
from processes import wait_calm
from rows import Bar, Measurement, Row, quantile, say
from support.gateway import HELLO
from support.live import Live
from vegeta import Hit

RATE = 1000  # requests a second
RAMP = 5.0  # seconds that the scaler gets
SLEEP_MS = 100
SLEEPER = (
    "import asyncio\n\nasync def handle(event, context):\n"
    f"    await asyncio.sleep({SLEEP_MS / 1000})\n    return 'slept'\n"
)
NAME = "load"

KNATIVE = f"{RATE:,} requests/s of a {SLEEP_MS} ms sleeper, open loop, from zero"
KNATIVE_ERRORS = Bar(f"{KNATIVE}, errors", "", most=0)
KNATIVE_P95 = Bar(f"{KNATIVE}, p95 after the first {RAMP:g} s", "ms", most=115)
KNATIVE_MAX = Bar(f"{KNATIVE}, slowest of all", "s")
STEP_ERRORS = Bar(f"step from 0 to {RATE:,} requests/s, function at zero, open loop, errors", "", most=0)
STEP_MAX = Bar(f"step from 0 to {RATE:,} requests/s, function at zero, open loop, slowest", "s", most=3)


def measure_knative(quick: bool) -> list[Row]:
    seconds = 15 if quick else 60
    with Live() as live:
        (hits,) = _from_zero(live, SLEEPER, seconds, 1)
        instances = live.replicas(NAME)
    settled = [hit.seconds * 1000 for hit in hits if hit.due >= RAMP]
    how = f"{_told(hits, seconds)}; an async handler, settings as shipped, {instances} instances at the end"
    shares = ", ".join(f"p{share * 100:g} {quantile(settled, share):.1f}" for share in (0.5, 0.99))
    early = quantile([hit.seconds for hit in hits if hit.due < RAMP], 0.95)
    return [
        KNATIVE_ERRORS.row(_errors(hits), how),
        KNATIVE_P95.row(quantile(settled, 0.95), f"from the moment each was due; {shares} ms; {how}"),
        KNATIVE_MAX.row(max(hit.seconds for hit in hits), f"p95 of the first {RAMP:g} s is {early:.2f} s"),
    ]


def measure_step(quick: bool) -> list[Row]:
    rounds, seconds = (2, 4) if quick else (5, 10)
    with Live() as live:
        found = _from_zero(live, HELLO, seconds, rounds)
    hits = [hit for each in found for hit in each]
    slowest = [max(hit.seconds for hit in each) for each in found]
    how = f"{_told(hits, seconds)}; {rounds} rounds, a trivial handler, settings as shipped"
    return [
        STEP_ERRORS.row(_errors(hits), how),
        STEP_MAX.row(max(slowest), f"the rounds' slowest: {min(slowest):.3f} to {max(slowest):.3f} s; {how}"),
    ]


def _from_zero(live: Live, code: str, seconds: int, rounds: int) -> list[list[Hit]]:
    """Return each round's requests. An uncounted call comes first, since the bundle's first start reads it from
    disk."""
    live.deploy(NAME, code)
    live.invoke(NAME)
    found = []
    for number in range(rounds):
        live.sleep(NAME)
        wait_calm(live)
        found.append(vegeta.attack(f"http://127.0.0.1:{live.port}/function/{NAME}", RATE, seconds, live.folder))
        say(f"open loop: round {number + 1}/{rounds}: {_errors(found[-1])} errors, slowest "
            f"{max(hit.seconds for hit in found[-1]):.2f} s, {live.replicas(NAME)} instances")  # fmt: skip
    return found


def _told(hits: list[Hit], seconds: int) -> str:
    late = max(hit.sent - hit.due for hit in hits)
    failed = f"; {vegeta.failures(hits)}" if _errors(hits) else ""
    return f"vegeta, {len(hits):,} requests over {seconds} s, sent at most {late * 1000:.0f} ms late{failed}"


def _errors(hits: list[Hit]) -> int:
    return sum(bool(hit.error) for hit in hits)


MEASUREMENTS = (
    Measurement("knative", (KNATIVE_ERRORS, KNATIVE_P95, KNATIVE_MAX), measure_knative, ("go",)),
    Measurement("step", (STEP_ERRORS, STEP_MAX), measure_step, ("go",)),
)
