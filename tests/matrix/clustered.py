"""Writes what the faults of a cluster cost calls, as JSON and as a table of docs/kill-matrix.md."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from support.generated import put_between
from support.load import Load

FILE = Path("build") / "cluster-faults.json"
DOCUMENT = Path("docs") / "kill-matrix.md"
BEGIN, END = "<!-- faults of a cluster: written by `make test-kubernetes` -->", "<!-- end of faults of a cluster -->"
HEAD = "| fault | calls | of these cold | failed | longest answered |\n|---|---|---|---|---|\n"


@dataclass(frozen=True)
class ClusterFault:
    """What a fault cost a load of calls; the test that made it has checked which calls failed."""

    fault: str
    calls: int
    cold: int
    failed: int
    longest: float  # seconds of an answered call


def result(fault: str, load: Load) -> ClusterFault:
    return ClusterFault(fault, len(load.calls), load.woken, len(load.failed), load.longest())


def write(results: Sequence[ClusterFault]) -> None:
    """Write the results of a run as JSON."""
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_text(json.dumps([asdict(one) for one in results], indent=1) + "\n")


def table(results: Sequence[ClusterFault]) -> str:
    """Format a row for each fault."""
    return HEAD + "".join(
        f"| {one.fault} | {one.calls} | {one.cold} | {one.failed} | {one.longest * 1000:.0f} ms |\n" for one in results
    )


def main() -> None:
    """Write the table of the last run into the document, with its commit and time."""
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=True)
    ran = datetime.fromtimestamp(FILE.stat().st_mtime, UTC)
    results = [ClusterFault(**row) for row in json.loads(FILE.read_text())]
    new = f"\n\nThe run of {ran:%Y-%m-%d %H:%M} UTC, of commit {commit.stdout.strip()}:\n\n{table(results)}\n"
    DOCUMENT.write_text(put_between(DOCUMENT.read_text(), BEGIN, END, new))


if __name__ == "__main__":
    sys.exit(main())
