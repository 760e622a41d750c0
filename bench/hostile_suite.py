"""Counts the hostile suite of the tests: the attacks refused while a victim keeps working undisturbed."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from hostile.suite import at_level, perform, possible
from hostile.world import PLATFORM_VALUE, World, compile_probe
from rows import Bar, Measurement, MeasurementFailed, Row, say
from support.live import Live

REFUSED = Bar("hostile suite at the level full: attacks refused", "%", least=100.0)
LONG_GROUPS = ("bombs", "packages")  # skipped in the quick form
QUICK_STEP = 8  # the quick form makes every eighth of the others; `make hostile` makes all


def measure(quick: bool) -> list[Row]:
    """Make every attack; print each gain at once."""
    if os.geteuid() != 0:
        raise MeasurementFailed("needs root")
    left_out = LONG_GROUPS if quick else ()
    attacks = [attack for attack in at_level("full") if possible(attack) and attack.group not in left_out]
    attacks = attacks[:: QUICK_STEP if quick else 1]
    refused = 0
    os.environ["RESCOLDO_TEST_MARKER"] = PLATFORM_VALUE
    try:
        with (
            tempfile.TemporaryDirectory() as folder,
            Live() as live,
            World(live, "full", compile_probe(Path(folder))).inhabited() as world,
        ):
            for attack in attacks:
                outcome = perform(attack, world)
                refused += not outcome.gained
                if outcome.gained:
                    say(f"hostile: {attack}: {outcome.gained}")
    finally:
        del os.environ["RESCOLDO_TEST_MARKER"]
    without = f", one of {QUICK_STEP}, without {' and '.join(left_out)}" if quick else ""
    counted = f"{len(attacks)} attacks, {refused} refused{without}"
    watched = "a victim and a bystander were called all the time, and none of their calls may fail"
    return [REFUSED.row(100.0 * refused / len(attacks), f"{counted}; {watched}")]


MEASUREMENT = Measurement("hostile", (REFUSED,), measure)
