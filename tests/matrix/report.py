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
BEGIN = "<!-- kill matrix: written by `make kill-matrix` -->"
END = "<!-- end of the kill matrix -->"
HEAD = (
    "| struck | during | requests | failed in flight | failed otherwise | longest warm call elsewhere "
    "| all served again |\n|---|---|---|---|---|---|---|\n"
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


def tables(results: Sequence[Result]) -> str:
    """One table for each fault, in the order of the cells."""
    parts = []
    for fault in FAULTS:
        rows = "".join(_row(result) for result in results if result.fault == fault)
        parts.append(f"{fault}:\n\n{HEAD}{rows}")
    return "\n".join(parts)


def _row(result: Result) -> str:
    stall = "–" if result.stall is None else f"{result.stall * 1000:.0f} ms"
    return (
        f"| {result.target} | {result.load} | {result.requests} | {result.failed_inside} | {result.failed_outside} "
        f"| {stall} | {result.served_after:.2f} s |\n"
    )


def rewrite(text: str, results: Sequence[Result]) -> str:
    """Put the tables between the document's two markers."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the document lacks the markers {BEGIN!r} and {END!r}")
    return f"{before}{begin}\n\n{tables(results)}\n{end}{after}"


def main() -> int:
    """Take the last run's tables into the document, unless it was a part of the matrix only."""
    results = [Result(**data) for data in json.loads(FILE.read_text())]
    if len(results) != len(CELLS):
        print(f"{FILE} has {len(results)} of {len(CELLS)} cells: {DOCUMENT} stays as it is", file=sys.stderr)
        return 1
    DOCUMENT.write_text(rewrite(DOCUMENT.read_text(), results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
