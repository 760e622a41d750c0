"""The report: bars, rows, the machine, the table and results.json."""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from rescoldo.edge.process import binary, environment

BEGIN = time.monotonic()


class MeasurementFailed(Exception):
    """A measurement could not be made; a missed bar is not a failure."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the report. `bar` and `met` are None for a figure without a bar, `value` is None if the
    measurement failed. `date` is the start of the row's run (ISO 8601, UTC)."""

    name: str
    value: float | None
    unit: str
    bar: str | None
    met: bool | None
    reference: str
    date: str = ""


@dataclass(frozen=True, slots=True)
class Bar:
    """The name of a figure and its least or greatest good value; a bar with neither only reports."""

    name: str
    unit: str
    least: float | None = None
    most: float | None = None

    @property
    def text(self) -> str | None:
        if self.least is not None:
            return f"≥ {self.least:g}"
        return None if self.most is None else f"≤ {self.most:g}"

    def row(self, value: float, reference: str) -> Row:
        """Return the figure's row; the bar applies to the measured value, not to the rounded one."""
        met = None
        if self.least is not None:
            met = value >= self.least
        elif self.most is not None:
            met = value <= self.most
        return Row(self.name, _rounded(value), self.unit, self.text, met, reference)

    def failed(self, why: str) -> Row:
        """Return the row of a failed measurement, which misses its bar if it has one."""
        return Row(self.name, None, self.unit, self.text, None if self.text is None else False, why)


@dataclass(frozen=True, slots=True)
class Measurement:
    """One thing to run: `measure(quick)` returns the rows of `bars`, in their order. `needs` names commands that do
    not belong to this project."""

    name: str
    bars: tuple[Bar, ...]
    measure: Callable[[bool], list[Row]]
    needs: tuple[str, ...] = ()


def say(text: str) -> None:
    """Print a line of progress."""
    print(f"{time.monotonic() - BEGIN:6.1f} s  {text}", file=sys.stderr, flush=True)


def quantile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least `share` of all do not exceed (nearest rank): of 200 values, 0.99 is
    the 198th."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def machine(*, quick: bool) -> dict[str, str | int]:
    """Describe where and when the figures were measured."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1e9:.1f} GB",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "haproxy": _haproxy_version(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "form": "quick" if quick else "long",
        "load": f"{os.getloadavg()[0]:.2f} (one minute, before the first measurement)",
    }


def show(rows: Sequence[Row]) -> None:
    """Print the table at the terminal's width, or 160 columns wide without a terminal."""
    table = Table("what", "value", "bar", "met", "measured", show_lines=True)
    for row in rows:
        value = "failed" if row.value is None else f"{row.value:,g} {row.unit}".strip()
        met = "" if row.met is None else "[green]yes[/]" if row.met else "[red]no[/]"
        table.add_row(row.name, value, row.bar or "", met, row.reference)
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def merged(before: Sequence[Row], rows: Sequence[Row], names: Sequence[str]) -> list[Row]:
    """Add the rows from `before` that `rows` lacks; return the rows of `names` only, in that order."""
    found = {row.name: row for row in (*before, *rows)}
    return [found[name] for name in names if name in found]


def write(path: Path, about: dict[str, str | int], rows: Sequence[Row]) -> None:
    report = {"machine": about, "results": [asdict(row) for row in rows]}
    path.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")


def _rounded(value: float) -> float:
    """Round to three significant digits; whole numbers stay as they are."""
    return float(f"{value:.3g}") if value != int(value) else int(value)


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _haproxy_version() -> str:
    path = binary()
    done = subprocess.run([path, "-v"], env=environment(path), capture_output=True, text=True, check=True)
    return done.stdout.partition("version ")[2].split(" ")[0]
