"""Runs vegeta, an open-loop load generator: it sends each request on time, whether or not earlier ones were
answered."""

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
TIMEOUT = 30  # seconds for one request
RESULTS = "results"  # a file
EXHAUSTED = "no targets to attack"  # a row that is no request: the end of a list that vegeta reads once

csv.field_size_limit(sys.maxsize)  # a row holds the response's body, which may exceed csv's 128 KiB


@dataclass(frozen=True, slots=True)
class Hit:
    """One request. Times are seconds since the first request was due."""

    due: float
    sent: float
    ended: float
    status: int  # 0: no response
    cold: bool
    error: str  # empty: the status is 2xx or 3xx; else what failed, with the response's text

    @property
    def seconds(self) -> float:
        """Seconds since the request was due, so that a late generator hides nothing."""
        return self.ended - self.due


def attack(url: str, rate: int, seconds: int, folder: Path) -> list[Hit]:
    """GET `url` `rate` times a second over persistent connections; leaves files in `folder`."""
    results = _run(folder, [f"GET {url}"], [f"-rate={rate}/1s", f"-duration={seconds}s"], seconds)
    return list(_hits(results, rate))


def all_at_once(urls: Sequence[str], workers: int, folder: Path, *, kept: bool = False) -> list[Hit]:
    """GET each of `urls` once, as fast as `workers` clients can, over a new connection each or one persistent one
    per client."""
    options = ["-rate=0", f"-workers={workers}", f"-max-workers={workers}", "-lazy", f"-keepalive={str(kept).lower()}"]
    return list(_hits(_run(folder, [f"GET {url}" for url in urls], options, TIMEOUT), None))


def one_after_another(urls: Sequence[str], rate: int, folder: Path) -> list[Hit]:
    """GET each of `urls` once, `rate` of them a second, over a new connection each."""
    options = [f"-rate={rate}/1s", "-lazy", "-keepalive=false"]
    return list(_hits(_run(folder, [f"GET {url}" for url in urls], options, len(urls) / rate), rate))


def begin(folder: Path) -> float:
    """Return when the first request of the last run in `folder` was sent, as time.time() has it."""
    return min(int(row[0]) for row in _encoded(folder / RESULTS) if row[5] != EXHAUSTED) / 1e9


def failures(hits: Iterable[Hit]) -> str:
    """Describe the failures, the most frequent first; empty without failures."""
    kinds = Counter(hit.error for hit in hits if hit.error)
    return "; ".join(f"{count} x {error[:160]}" for error, count in kinds.most_common(3))


def parse(rows: Iterable[Sequence[str]], rate: int | None) -> Iterator[Hit]:
    """Read the rows of vegeta's CSV. With a `rate` (requests/s) a request's number says when it was due; without,
    it is due when it is sent.

    Times count from the first request that was due. The generator's clock starts before it sends anything, so the
    request with the least lag counts as on time.
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
        yield Hit(due, at, at + latency, int(row[1]), cold, _error(row))


def _error(row: Sequence[str]) -> str:
    """Return vegeta's words for a failure and the text of the response, which says who answered and why."""
    text = base64.b64decode(row[6]).decode(errors="replace").strip()
    return f"{row[5]}: {text}" if row[5] and text else row[5]


def _hits(results: Path, rate: int | None) -> Iterator[Hit]:
    return parse(_encoded(results), rate)


def _encoded(results: Path) -> Iterator[list[str]]:
    """Read a file of results as rows of CSV."""
    encoding = subprocess.run(
        [program(), "encode", "-to=csv", str(results)], capture_output=True, text=True, check=True
    )
    return csv.reader(encoding.stdout.splitlines())


def program() -> Path:
    """Return the program, built if necessary. Raises MeasurementFailed."""
    return build(BENCH / "generator", PACKAGE)


def _run(folder: Path, targets: Sequence[str], options: list[str], seconds: float) -> Path:
    """Run an attack; return the file of results. Raises MeasurementFailed if vegeta itself fails."""
    listed, results = folder / "targets", folder / RESULTS
    listed.write_text("\n".join(targets) + "\n")
    command = [
        str(program()), "attack", f"-targets={listed}", f"-output={results}", f"-timeout={TIMEOUT}s", "-redirects=-1",
        *options,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + TIMEOUT + 60)
    if done.returncode:
        raise MeasurementFailed(f"vegeta failed:\n{done.stderr[-2000:]}")
    return results
