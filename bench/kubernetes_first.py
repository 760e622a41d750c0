"""Measures the first call of a function on a worker that has never had it: right after its deployment, and on a worker
that is new."""

from __future__ import annotations

import os
import statistics
from dataclasses import dataclass

from kubernetes_cell import Cell, CellMeasurement, Spec, spread
from rows import Bar, MeasurementFailed, Row, say

FUNCTIONS = 20  # of each size
LARGE = 10 * 10**6  # bytes

SMALL_BAR, LARGE_BAR = 25, 120  # ms
DEPLOYED = "first call on a worker that never had the function, after its deployment"
RENEWED = "first call on a worker that never had the function, a new worker"
SMALL_DEPLOYED = Bar(f"{DEPLOYED}, small bundle", "ms", most=SMALL_BAR)
LARGE_DEPLOYED = Bar(f"{DEPLOYED}, 10 MB", "ms", most=LARGE_BAR)
SMALL_RENEWED = Bar(f"{RENEWED}, small bundle", "ms", most=SMALL_BAR)
LARGE_RENEWED = Bar(f"{RENEWED}, 10 MB", "ms", most=LARGE_BAR)


@dataclass(frozen=True, slots=True)
class Size:
    """Functions with bundles of one size, each with a bundle of its own."""

    word: str
    data: int  # bytes that do not compress
    deployed: Bar
    renewed: Bar

    def names(self, count: int) -> list[str]:
        return [f"first-{self.word}-{number}" for number in range(count)]


SIZES = (Size("small", 0, SMALL_DEPLOYED, SMALL_RENEWED), Size("large", LARGE, LARGE_DEPLOYED, LARGE_RENEWED))


def measure(cell: Cell, quick: bool) -> list[Row]:
    count = 5 if quick else FUNCTIONS
    rows = []
    cell.workers(1)
    cell.deploy("first", "def handle(event, context):\n    return 'first'\n")
    for size in SIZES:
        specs = {name: _upload(cell, name, size.data) for name in size.names(count)}
        cell.get("first")
        cell.wait_calm()
        after = []
        for name, spec in specs.items():
            cell.deploy_all({name: spec})
            after.append(_first(cell, name))
        rows.append(_row(size.deployed, after, "deployed with rollout=immediate, then called"))
        cell.new_workers()
        cell.get("first")  # the first start in a new worker, which is not the functions' cost
        cell.wait_calm()
        renewed = [_first(cell, name) for name in specs]
        rows.append(_row(size.renewed, renewed, "after its pod was replaced, at rest again"))
        cell.remove(specs)
    cell.remove(["first"])
    return [*rows[::2], *rows[1::2]]


def _upload(cell: Cell, name: str, data: int) -> Spec:
    """Upload a bundle that no other function has; return the function's deployment."""
    image = f"{name}:bench"
    source = cell.folder / "source" / image.replace(":", "_")
    source.mkdir(parents=True, exist_ok=True)
    if data:
        (source / "data.bin").write_bytes(os.urandom(data))
    cell.upload(image, f"def handle(event, context):\n    return '{name}'\n")
    return {"image": image}


def _first(cell: Cell, name: str) -> float:
    """Return the milliseconds of the call."""
    reply = cell.cold(name)
    if reply.body.decode() != name:
        raise MeasurementFailed(f"{name} answered {reply.body[:200]!r}")
    return reply.seconds * 1000


def _row(bar: Bar, times: list[float], how: str) -> Row:
    say(f"first: {bar.name}: {statistics.median(times):.1f} ms, {spread(times)}")
    return bar.row(
        statistics.median(times),
        f"median of {len(times)} functions, each with a bundle of its own, {spread(times)} ms; one worker, "
        f"{how}; connect to last byte on a new connection through the gateway",
    )


MEASUREMENT = CellMeasurement(
    "first", (SMALL_DEPLOYED, LARGE_DEPLOYED, SMALL_RENEWED, LARGE_RENEWED), measure
)  # fmt: skip
