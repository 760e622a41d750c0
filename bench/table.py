"""Writes the measured figures into the table of docs/measurements.md.

    python bench/table.py       reads bench/results.json; the long form of `make bench` runs it, too
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

import paths
from rows import Row
from support.generated import put_between

RESULTS = paths.BENCH / "results.json"
DOCUMENT = paths.ROOT / "docs" / "measurements.md"
BEGIN = "<!-- measured: written by `make bench` -->"
END = "<!-- end of measured -->"


def report(file: Path = RESULTS) -> tuple[dict[str, str | int], list[Row]]:
    """Read the last report: machine and rows."""
    found = json.loads(file.read_text())
    return found["machine"], [Row(**row) for row in found["results"]]


def update(about: Mapping[str, str | int], rows: Sequence[Row]) -> None:
    """Write the figures into the document."""
    DOCUMENT.write_text(replaced(DOCUMENT.read_text(), text_of(about, [asdict(row) for row in rows])))


def text_of(
    about: Mapping[str, str | int], rows: Sequence[Mapping[str, object]], file: str = "bench/results.json"
) -> str:
    """Format the machine and a row for each figure of `file`."""
    head = (
        f"{str(about['form']).capitalize()} form: {about['cores']} cores ({about['cpu']}), Linux {about['kernel']}, "
        f"Python {about['python']},\nHAProxy {about['haproxy']}; load {about['load']}.\n"
        f"How each was measured is in `{file}`.\n"
    )
    lines = "".join(
        f"| {row['name']} | {_value(row)} | {row['bar'] or ''} | {_met(row)} | {_date(row)} |\n" for row in rows
    )
    return f"{head}\n| what | value | bar | met | run of (UTC) |\n|---|---|---|---|---|\n{lines}"


def replaced(text: str, measured: str) -> str:
    """Return `text` with `measured` between its two comments. Raises ValueError if a comment is missing."""
    return put_between(text, BEGIN, END, f"\n{measured}")


def _date(row: Mapping[str, object]) -> str:
    return f"{datetime.fromisoformat(str(row['date'])):%Y-%m-%d %H:%M}" if row["date"] else ""


def _value(row: Mapping[str, object]) -> str:
    value = row["value"]
    return "not measured" if value is None else f"{value:,g} {row['unit']}".strip()


def _met(row: Mapping[str, object]) -> str:
    return "" if row["met"] is None else "yes" if row["met"] else "**no**"


def main() -> int:
    """Write the last report's figures into the document."""
    update(*report())
    return 0


if __name__ == "__main__":
    sys.exit(main())
