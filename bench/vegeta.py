"""vegeta, a load generator with an open loop: requests are sent when they are due, answered or not those before."""

from __future__ import annotations

import base64
import csv
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from go_upstream import build
from paths import BENCH
from rows import MeasurementFailed

PACKAGE = "github.com/tsenart/vegeta/v12"
TIMEOUT = 30  # seconds of one request
EXHAUSTED = "no targets to attack"  # a row that is no request: the end of a list that is read once

csv.field_size_limit(sys.maxsize)


@dataclass(frozen=True, slots=True)
class Hit:
    """One request. Times are seconds since the first was due."""

    due: float
    sent: float
    ended: float
    status: int  # 0: there was no answer
    cold: bool
    error: str  # empty: the status is 2xx or 3xx

    @property
    def seconds(self) -> float:
        """From the moment it was due, so that a late generator hides nothing."""
        return self.ended - self.due


def attack(url: str, rate: int, seconds: int, folder: Path) -> list[Hit]:
    """GET `url` `rate` times a second, over connections that are kept; files are left in `folder`."""
    results = _run(folder, [f"GET {url}"], [f"-rate={rate}/1s", f"-duration={seconds}s"], seconds)
    return list(_hits(results, rate))


def all_at_once(urls: Sequence[str], workers: int, folder: Path, *, kept: bool = False) -> list[Hit]:
    """GET each of `urls` once, as fast as `workers` clients can, over a new connection each or one kept by each."""
    options = ["-rate=0", f"-workers={workers}", f"-max-workers={workers}", "-lazy", f"-keepalive={str(kept).lower()}"]
    return list(_hits(_run(folder, [f"GET {url}" for url in urls], options, TIMEOUT), None))


def failures(hits: Iterable[Hit]) -> str:
    """What went wrong, the most frequent first; empty where nothing did."""
    kinds = Counter(hit.error for hit in hits if hit.error)
    return "; ".join(f"{count} x {error[:160]}" for error, count in kinds.most_common(3))


def parse(rows: Iterable[Sequence[str]], rate: int | None) -> Iterator[Hit]:
    """Read the rows of vegeta's CSV; with a `rate` (requests a second) each is due by its number, else when it is
    sent.

    Times count from the first request that was due. The generator's clock begins before it sends anything: what was
    sent the least late is taken to be in time.
    """
    # columns: timestamp and latency in ns, and others; see `vegeta encode -h`
    read = [(int(row[0]) / 1e9, int(row[2]) / 1e9, int(row[8]), row) for row in rows if row[5] != EXHAUSTED]
    if not read:
        return
    lag = {number: sent - (number / rate if rate else 0.0) for sent, _, number, _ in read}
    begin = min(lag.values())
    for sent, latency, number, row in sorted(read, key=lambda one: one[2]):
        at = sent - begin
        due = number / rate if rate else at
        cold = b"x-cold-start: true" in base64.b64decode(row[11]).lower()
        yield Hit(due, at, at + latency, int(row[1]), cold, row[5])


def _hits(results: Path, rate: int | None) -> Iterator[Hit]:
    encoding = subprocess.run(
        [program(), "encode", "-to=csv", str(results)], capture_output=True, text=True, check=True
    )
    return parse(csv.reader(encoding.stdout.splitlines()), rate)


def program() -> Path:
    """Built where it is not there yet. Raises MeasurementFailed."""
    return build(BENCH / "generator", PACKAGE)


def _run(folder: Path, targets: Sequence[str], options: list[str], seconds: float) -> Path:
    """Raises MeasurementFailed when vegeta itself fails."""
    listed, results = folder / "targets", folder / "results"
    listed.write_text("\n".join(targets) + "\n")
    command = [
        str(program()), "attack", f"-targets={listed}", f"-output={results}", f"-timeout={TIMEOUT}s", "-redirects=-1",
        *options,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + TIMEOUT + 60)
    if done.returncode:
        raise MeasurementFailed(f"vegeta failed:\n{done.stderr[-2000:]}")
    return results
