"""What a run of the matrix says, as JSON and as tables in docs/behaviour.md."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from matrix.background import FaultResult
from matrix.cells import CELLS, Result
from matrix.faults import FAULTS

FILE = Path("build") / "kill-matrix.json"
FAULTS_FILE = Path("build") / "faults.json"
DOCUMENT = Path("docs") / "behaviour.md"
MATRIX_HEAD = (
    "| struck | during | requests | failed in flight | failed otherwise | longest warm call elsewhere "
    "| all served again |\n|---|---|---|---|---|---|---|\n"
)
FAULTS_HEAD = (
    "| fault | what does not work meanwhile | warm calls | failed | longest | all works again |\n"
    "|---|---|---|---|---|---|\n"
)


def write(results: Sequence[Result]) -> None:
    """Write the results of the matrix as JSON."""
    _write(FILE, results)


def write_faults(results: Sequence[FaultResult]) -> None:
    """Write the results of the other faults as JSON."""
    _write(FAULTS_FILE, results)


def _write(path: Path, results: Sequence[Result | FaultResult]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([asdict(result) for result in results], indent=1) + "\n")


def matrix_tables(results: Sequence[Result]) -> str:
    """One table for each signal, in the order of the cells."""
    parts = []
    for fault in FAULTS:
        rows = "".join(_matrix_row(result) for result in results if result.fault == fault)
        parts.append(f"{fault}:\n\n{MATRIX_HEAD}{rows}")
    return "\n".join(parts)


def _matrix_row(result: Result) -> str:
    return (
        f"| {result.target} | {result.load} | {result.requests} | {result.failed_inside} | {result.failed_outside} "
        f"| {_milliseconds(result.stall)} | {result.served_after:.2f} s |\n"
    )


def faults_table(results: Sequence[FaultResult]) -> str:
    """One row for each fault."""
    return FAULTS_HEAD + "".join(_fault_row(result) for result in results)


def _fault_row(result: FaultResult) -> str:
    well = "–" if result.well_after is None else f"after {result.well_after:.2f} s"
    calls = f"{result.requests} | {result.failed} | {_milliseconds(result.stall)}" if result.requests else "– | – | –"
    return f"| {result.fault} | {result.refused} | {calls} | {well} |\n"


def _milliseconds(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds * 1000:.0f} ms"


def replaced(text: str, name: str, table: str) -> str:
    """Put `table` between the two comments of this name."""
    opening, closing = f"<!-- {name}: written by `make kill-matrix` -->", f"<!-- end of {name} -->"
    before, begin, rest = text.partition(opening)
    _, end, after = rest.partition(closing)
    if not begin or not end:
        raise ValueError(f"the document lacks {opening!r} or {closing!r}")
    return f"{before}{begin}\n\n{table}\n{end}{after}"


def main() -> int:
    """Take the last run's tables into the document, unless it was a part of the matrix only."""
    results = [Result(**data) for data in json.loads(FILE.read_text())]
    faults = [FaultResult(**data) for data in json.loads(FAULTS_FILE.read_text())]
    if len(results) != len(CELLS):
        print(f"{FILE} has {len(results)} of {len(CELLS)} cells: {DOCUMENT} stays as it is", file=sys.stderr)
        return 1
    text = replaced(DOCUMENT.read_text(), "the kill matrix", matrix_tables(results))
    DOCUMENT.write_text(replaced(text, "other faults", faults_table(faults)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
