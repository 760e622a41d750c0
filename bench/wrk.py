"""Runs wrk and reads its report."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from rows import MeasurementFailed

POST = 'wrk.method = "POST"\nwrk.body = string.rep("x", 1024)\n'  # 1 KiB


@dataclass(frozen=True, slots=True)
class Throughput:
    requests: int
    per_second: float


def program() -> str:
    """Return the path of wrk. Raises MeasurementFailed if it is not installed."""
    found = shutil.which("wrk")
    if found is None:
        raise MeasurementFailed("wrk was not found: run `apt-get install wrk` as root")
    return found


def run(url: str, seconds: int, connections: int, *, post: bool = False) -> Throughput:
    """Load `url` from one thread. Raises MeasurementFailed if a request fails."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(POST if post else "")
        script.flush()
        command = [program(), "-t1", f"-c{connections}", f"-d{seconds}s", "-s", script.name, url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60)
    return parse(done.stdout + done.stderr, url)


def endless(url: str, report: Path) -> subprocess.Popen[bytes]:
    """Load `url` over one connection until SIGINT; wrk then writes its report into `report`."""
    with report.open("wb") as output:
        return subprocess.Popen([program(), "-t1", "-c1", "-d1h", url], stdout=output, stderr=output)


def parse(report: str, url: str) -> Throughput:
    """Read wrk's report. Raises MeasurementFailed if the report shows a failed request."""
    requests = re.search(r"(\d+) requests in", report)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", report)
    if not requests or not rate or "Non-2xx" in report or "Socket errors" in report:
        raise MeasurementFailed(f"wrk on {url}:\n{report}")
    return Throughput(int(requests[1]), float(rate[1]))
