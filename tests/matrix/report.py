"""Writes the results of the matrix as JSON and as the tables of docs/kill-matrix.md."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from matrix.background import FaultResult
from matrix.cells import CELLS, CHANGING_CELLS, SHARING_CELLS, Result
from matrix.faults import FAULTS
from matrix.neighbours import NeighbourResult, Seen
from support.generated import put_between

FILE = Path("build") / "kill-matrix.json"
CHANGING_FILE = Path("build") / "kill-matrix-changing.json"
NEIGHBOURS_FILE = Path("build") / "neighbours.json"
FAULTS_FILE = Path("build") / "faults.json"
DOCUMENT = Path("docs") / "kill-matrix.md"
REPEATED = "RESCOLDO_TEST_REPEATED"  # scripts/repeat_failed.py sets it when it repeats one test after a run
MATRIX_HEAD = (
    "| struck | during | requests | failed in flight | failed otherwise | longest warm call elsewhere "
    "| all served again |\n|---|---|---|---|---|---|---|\n"
)
CHANGING_HEAD = (
    "| struck | during | requests | failed in flight | failed otherwise | longest warm call elsewhere "
    "| all served again | all numbers right |\n|---|---|---|---|---|---|---|---|\n"
)
FAULTS_HEAD = (
    "| fault | what does not work meanwhile | warm calls | failed | longest | all works again |\n"
    "|---|---|---|---|---|---|\n"
)
NEIGHBOURS_HEAD = (
    "| what misbehaves | its callers get | warm calls of others | failed | median | p99 | longest "
    "| cold calls of others | failed | median | p99 | longest | cores | memory | wanted spares |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n"
)


def write(results: Sequence[Result]) -> None:
    """Write the results of the matrix as JSON."""
    _write(FILE, results)


def write_changing(results: Sequence[Result]) -> None:
    """Write the results of the cells with changing numbers of instances as JSON."""
    _write(CHANGING_FILE, results)


def write_faults(results: Sequence[FaultResult]) -> None:
    """Write the results of the other faults as JSON."""
    _write(FAULTS_FILE, results)


def write_neighbours(results: Sequence[NeighbourResult]) -> None:
    """Write the effects of misbehaving functions on others as JSON."""
    _write(NEIGHBOURS_FILE, results)


def _write(path: Path, results: Sequence[Result | FaultResult | NeighbourResult]) -> None:
    rows = [asdict(result) for result in results]
    if REPEATED in os.environ and path.exists():
        rows = merged(json.loads(path.read_text()), rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows, indent=1) + "\n")


def merged(before: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Replace the repeated cells of the run `before` with `rows`."""
    found = {tuple(row.get(name) for name in ("target", "fault", "load")): row for row in (*before, *rows)}
    return list(found.values())


def matrix_tables(results: Sequence[Result], head: str = MATRIX_HEAD) -> str:
    """Format a table for each signal, in the order of the cells."""
    parts = []
    for fault in FAULTS:
        rows = "".join(_matrix_row(result) for result in results if result.fault == fault)
        parts.append(f"{fault}:\n\n{head}{rows}")
    return "\n".join(parts)


def _matrix_row(result: Result) -> str:
    last = "" if result.true_after is None else f" {result.true_after:.2f} s |"
    return (
        f"| {result.target} | {result.load} | {result.requests} | {result.failed_inside} | {result.failed_outside} "
        f"| {_milliseconds(result.stall)} | {result.served_after:.2f} s |{last}\n"
    )


def faults_table(results: Sequence[FaultResult]) -> str:
    """Format a row for each fault."""
    return FAULTS_HEAD + "".join(_fault_row(result) for result in results)


def _fault_row(result: FaultResult) -> str:
    well = "–" if result.well_after is None else f"after {result.well_after:.2f} s"
    calls = f"{result.requests} | {result.failed} | {_milliseconds(result.stall)}" if result.requests else "– | – | –"
    return f"| {result.fault} | {result.refused} | {calls} | {well} |\n"


def neighbours_table(results: Sequence[NeighbourResult]) -> str:
    """Format a row for each misbehaving function."""
    return NEIGHBOURS_HEAD + "".join(_neighbour_row(result) for result in results)


def _neighbour_row(result: NeighbourResult) -> str:
    seen = " | ".join(_seen(kind) for kind in (result.warm, result.cold))
    return (
        f"| {result.fault} | {result.answered} | {seen} | {result.cores:.2f} | {result.memory / 2**20:+.1f} MiB "
        f"| {result.wanted_spares} |\n"
    )


def _seen(seen: Seen) -> str:
    times = " | ".join(f"{seconds * 1000:.1f} ms" for seconds in (seen.median, seen.p99, seen.longest))
    return f"{seen.calls} | {seen.failed} | {times}"


def _milliseconds(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds * 1000:.0f} ms"


def replaced(text: str, name: str, table: str) -> str:
    """Put `table` between the two comments with this name."""
    begin, end = f"<!-- {name}: written by `make kill-matrix` -->", f"<!-- end of {name} -->"
    return put_between(text, begin, end, f"\n\n{table}\n")


def main() -> int:
    """Write the last run's tables into the document, unless that run was incomplete."""
    results, changing = _cells(FILE), _cells(CHANGING_FILE)
    faults = [FaultResult(**data) for data in json.loads(FAULTS_FILE.read_text())]
    whole = ((FILE, results, CELLS), (CHANGING_FILE, changing, CHANGING_CELLS + SHARING_CELLS))
    for path, found, cells in whole:
        if len(found) != len(cells):
            print(f"{path} has {len(found)} of {len(cells)} cells: {DOCUMENT} stays as it is", file=sys.stderr)
            return 1
    text = replaced(DOCUMENT.read_text(), "the kill matrix", matrix_tables(results))
    text = replaced(text, "the kill matrix with changing numbers", matrix_tables(changing, CHANGING_HEAD))
    text = replaced(text, "other faults", faults_table(faults))
    DOCUMENT.write_text(replaced(text, "neighbours", neighbours_table(_neighbours())))
    return 0


def _neighbours() -> list[NeighbourResult]:
    rows = json.loads(NEIGHBOURS_FILE.read_text())
    return [NeighbourResult(**{**row, "warm": Seen(**row["warm"]), "cold": Seen(**row["cold"])}) for row in rows]


def _cells(path: Path) -> list[Result]:
    return [Result(**data) for data in json.loads(path.read_text())]


if __name__ == "__main__":
    sys.exit(main())
