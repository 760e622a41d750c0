"""Lists all measurements in the order of the report."""

from __future__ import annotations

import abandoned
import azure
import burst
import cold
import crash
import flood
import go_program
import handler
import hostile_suite
import kills
import leaving
import many
import one_at_once
import open_loop
import project
import race
import rest
import soak
import warm

ALL = (
    warm.MEASUREMENT, handler.MEASUREMENT, *cold.MEASUREMENTS, *go_program.MEASUREMENTS, *burst.MEASUREMENTS,
    one_at_once.MEASUREMENT, abandoned.MEASUREMENT, *open_loop.MEASUREMENTS, many.MEASUREMENT, project.MEASUREMENT,
    azure.MEASUREMENT, race.MEASUREMENT, crash.MEASUREMENT, flood.MEASUREMENT, kills.MEASUREMENT, leaving.MEASUREMENT,
    *rest.MEASUREMENTS,
    hostile_suite.MEASUREMENT, soak.MEASUREMENT,
)  # fmt: skip
