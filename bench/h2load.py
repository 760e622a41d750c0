"""Runs h2load with HTTP/1.1, a closed-loop load generator that also speaks to Unix sockets."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from rows import MeasurementFailed


def run(socket: Path, seconds: int, connections: int) -> float:
    """GET / from one thread over persistent connections; return requests/s. Raises MeasurementFailed if a request
    fails."""
    found = shutil.which("h2load")
    if found is None:
        raise MeasurementFailed("h2load was not found: run `apt-get install nghttp2-client` as root")
    command = [found, "--h1", "-t1", f"-c{connections}", f"-D{seconds}", f"--base-uri=unix:{socket}"]
    done = subprocess.run([*command, "http://localhost/"], capture_output=True, text=True, timeout=seconds + 60)
    return parse(done.stdout + done.stderr)


def parse(report: str) -> float:
    """Read requests/s from h2load's report. Raises MeasurementFailed if the report shows a failed request."""
    rate = re.search(r"finished in [^,]+, ([\d.]+) req/s", report)
    ended = re.search(r"(\d+) done, (\d+) succeeded, (\d+) failed", report)
    if not rate or not ended or ended[1] != ended[2] or ended[1] == "0":
        raise MeasurementFailed(f"h2load:\n{report[-2000:]}")
    return float(rate[1])
