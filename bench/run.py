"""Measures the platform as it is shipped and compares the figures with their bars.

    python bench/run.py [--quick] [--only NAME ... [--update]]

Prints a table and writes bench/results.json. A run with --only writes no report, unless --update merges its figures
into the last one. The long form also writes the table of docs/measurements.md. The exit status is 1 if a
measurement failed, and 0 even if a figure misses its bar. Missing commands (wrk, h2load, go) are installed if
permitted; measurements that lack a command are announced before the first one starts.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import replace

import paths  # noqa: F401  first of ours: the rest needs what it makes importable
import table
import tools
from measurements import ALL
from rows import Measurement, Row, machine, merged, say, show, write


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the platform and compare the figures with their bars.")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter runs")
    parser.add_argument("--only", action="append", choices=[m.name for m in ALL], metavar="NAME",
                        help=f"one of {', '.join(m.name for m in ALL)}; may be given more than once")  # fmt: skip
    parser.add_argument("--update", action="store_true",
                        help="with --only: merge the figures into the last report, where each has its own date")
    options = parser.parse_args()
    if options.update and (options.quick or options.only is None):
        parser.error("--update is for the long form of some measurements: it needs --only, and no --quick")
    chosen = [m for m in ALL if options.only is None or m.name in options.only]
    lacking = tools.provide(chosen)
    about = machine(quick=options.quick)
    results = [run(measurement, options.quick, lacking[measurement.name]) for measurement in chosen]
    rows = [replace(row, date=str(about["date"])) for found, _ in results for row in found]
    show(rows)
    if options.only is None or options.update:
        if options.only is not None:
            rows = merged(table.report()[1], rows, [bar.name for m in ALL for bar in m.bars])
        write(table.RESULTS, about, rows)
        if not options.quick:
            table.update(about, rows)
    return int(not all(worked for _, worked in results))


def run(measurement: Measurement, quick: bool, lacking: Sequence[str] = ()) -> tuple[list[Row], bool]:
    """Run a measurement; return its rows and whether it succeeded. A measurement that is `lacking` commands fails
    at once."""
    if lacking:
        why = f"not measured: {', '.join(lacking)} is missing; scripts/need {' '.join(lacking)} installs it"
        return [bar.failed(why) for bar in measurement.bars], False
    say(measurement.name)
    begin = time.monotonic()
    try:
        rows = measurement.measure(quick)
        say(f"{measurement.name} took {time.monotonic() - begin:.0f} s")
        return rows, True
    except Exception as error:  # a failure must not stop the other measurements
        traceback.print_exc()
        why, _, _ = (str(error) or type(error).__name__).partition("\n")
        return [bar.failed(f"not measured: {why[:300]}") for bar in measurement.bars], False


if __name__ == "__main__":
    sys.exit(main())
