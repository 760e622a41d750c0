"""Measures the platform as it is shipped and compares the figures with their bars.

    python bench/run.py [--quick] [--only NAME ...]

Prints a table and writes bench/results.json (not with --only: a part is no report); the long form also writes the
table in docs/discussions.md. The exit status is 0 also when a bar is missed, and 1 only when something could not be
measured.
"""

from __future__ import annotations

import argparse
import sys
import traceback

import paths  # noqa: F401  first of ours: the rest needs what it makes importable
import table
from measurements import ALL
from rows import Measurement, Row, machine, say, show, write


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the platform and compare the figures with their bars.")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter runs")
    parser.add_argument("--only", action="append", choices=[m.name for m in ALL], metavar="NAME",
                        help=f"one of {', '.join(m.name for m in ALL)}; may be given more than once")  # fmt: skip
    options = parser.parse_args()
    chosen = [m for m in ALL if options.only is None or m.name in options.only]
    about = machine(quick=options.quick)
    results = [run(measurement, options.quick) for measurement in chosen]
    rows = [row for found, _ in results for row in found]
    show(rows)
    if options.only is None:
        write(table.RESULTS, about, rows)
        if not options.quick:
            table.update(about, rows)
    return int(not all(worked for _, worked in results))


def run(measurement: Measurement, quick: bool) -> tuple[list[Row], bool]:
    """The rows of a measurement, and whether it could be made."""
    say(measurement.name)
    try:
        return measurement.measure(quick), True
    except Exception as error:  # the others are measured all the same
        traceback.print_exc()
        why, _, _ = (str(error) or type(error).__name__).partition("\n")
        return [bar.failed(f"not measured: {why[:300]}") for bar in measurement.bars], False


if __name__ == "__main__":
    sys.exit(main())
