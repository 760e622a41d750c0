"""Measures calls that meet functions as they fall asleep."""

from __future__ import annotations

from client import run_client
from rows import Bar, Measurement, MeasurementFailed, Row, say
from support.live import Live

FUNCTIONS = 8
WINDOW = {"com.openfaas.scale.zero-duration": "50ms"}
# the response names function and instance, so that a wrong function or a second execution shows
WHO = (
    "import os, secrets\n\nINSTANCE = secrets.token_hex(8)\n\n"
    "def handle(event, context):\n    return os.environ['WHO'] + ' ' + INSTANCE\n"
)
PATIENCE = 240.0  # seconds until all sleeps must have happened

ERRORS = Bar("sleep and wake race under load timed to hit it, errors", "", most=0)


def measure(quick: bool) -> list[Row]:
    sleeps = 200 if quick else 1000
    names = [f"race-{number}" for number in range(FUNCTIONS)]
    with Live() as live:
        live.upload("who:bench", WHO)
        for name in names:
            live.deploy(name, image="who:bench", labels=WINDOW, envVars={"WHO": name})
        asked = {"port": live.port, "names": names, "sleeps": sleeps, "seconds": PATIENCE}
        seen = run_client("race_client.py", asked, PATIENCE + 120)
    say(f"race: {seen['sleeps']} sleeps, {seen['caught']} given up, {seen['error_count']} errors")
    if seen["sleeps"] < sleeps:
        raise MeasurementFailed(f"only {seen['sleeps']} of {sleeps} sleeps in {PATIENCE:g} s; {seen['errors'][:1]}")
    first = f"; the first: {seen['errors'][0]}" if seen["errors"] else ""
    return [
        ERRORS.row(
            seen["error_count"],
            f"in {seen['calls']:,} calls (half of them POST) over {seen['sleeps']:,} completed sleeps, counted by the "
            f"instances that answered, and {seen['caught']:,} sleeps that a call met and the platform cancelled; "
            f"{FUNCTIONS} functions, idle window 50 ms{first}",
        )
    ]


MEASUREMENT = Measurement("race", (ERRORS,), measure)
