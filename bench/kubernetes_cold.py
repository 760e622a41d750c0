"""Measures cold starts through a gateway: whole HTTP calls on new connections to sleeping functions, from outside."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import kubernetes_pods
from kubernetes_cell import Cell, CellMeasurement, Spec, spread
from rows import Bar, MeasurementFailed, Row, quantile, say

FUNCTIONS = 200
PODS = 5
PAUSE = 0.03  # seconds: workers have made new spares by then
TELLS = (
    "import os, pathlib\n\n\ndef handle(event, context):\n"
    "    secret = pathlib.Path(os.environ['secret_mount_path'], os.environ['mine']).read_text()\n"
    "    return f\"{os.environ['mine']} {secret}\"\n"
)
IMAGE = "tells:bench"

ABOUT = "pooled function from zero through the gateway, with variables and a secret of its own"
P50 = Bar(f"{ABOUT}, p50", "ms", most=8)
P99 = Bar(f"{ABOUT}, p99", "ms", most=30)
PAUSED = Bar(f"{ABOUT}, p50, {PAUSE * 1000:.0f} ms after the call before", "ms")
BARE = Bar("a bare Pod of the same image that runs a stdlib http.server, until it answers", "ms")


def measure(cell: Cell, quick: bool) -> list[Row]:
    """Call all functions once in each round, one after another. The first round is not counted: it fetches them."""
    rounds, names = (1, _names()[:40]) if quick else (3, _names())
    cell.workers(2)
    cell.upload(IMAGE, TELLS)
    with _secrets(cell, names), cell.deployed(_specs(names)):
        times, paused = [], []
        for number in range(rounds + 1):
            times.append(_round(cell, names))
            paused.append(_round(cell, names, PAUSE))
            half, most, calm = quantile(times[-1], 0.5), quantile(times[-1], 0.99), quantile(paused[-1], 0.5)
            say(f"cold: round {number}/{rounds}: p50 {half:.1f}, p99 {most:.1f} ms; with pauses p50 {calm:.1f} ms")
        cell.sleep_all(names)
    bare = [seconds * 1000 for seconds in kubernetes_pods.first_answers(PODS)]
    say(f"cold: bare Pods {spread(bare, 0)} ms")
    shares = {share: [quantile(found, share) for found in times[1:]] for share in (0.5, 0.99)}
    calm_ones = [quantile(found, 0.5) for found in paused[1:]]
    how = (
        f"connect to last byte on a new connection from the host to a gateway's pod, {len(names)} functions on 2 "
        f"workers one after another; median of {rounds} rounds"
    )
    return [
        *(
            bar.row(statistics.median(shares[share]), f"{how}: {spread(shares[share])} ms")
            for bar, share in ((P50, 0.5), (P99, 0.99))
        ),
        PAUSED.row(statistics.median(calm_ones), f"{how}: {spread(calm_ones)} ms; in turn with those above"),
        BARE.row(
            statistics.median(bare),
            f"median of {PODS}, {spread(bare, 0)} ms, after the rounds above; restricted, no token, no Deployment, no "
            f"probe, image present; {statistics.median(bare) / statistics.median(shares[0.5]):.0f} times our p50",
        ),
    ]


def _round(cell: Cell, names: list[str], pause: float = 0.0) -> list[float]:
    """Call all functions once, `pause` seconds after one another; return the milliseconds that each call took."""
    cell.sleep_all(names)
    found = []
    for name in names:
        found.append(_told(cell, name) * 1000)
        time.sleep(pause)
    return found


@contextmanager
def _secrets(cell: Cell, names: list[str]) -> Iterator[None]:
    """Have a secret for each function."""

    def create(name: str) -> None:
        cell.expect(202, cell.system("POST", "/secrets", {"name": name, "value": f"word of {name}"}))

    def delete(name: str) -> None:
        cell.expect(202, cell.system("DELETE", "/secrets", {"name": name}))

    cell.at_once(create, names)
    try:
        yield
    finally:
        cell.at_once(delete, names)


def _specs(names: list[str]) -> Mapping[str, Spec]:
    return {name: {"image": IMAGE, "envVars": {"mine": name}, "secrets": [name]} for name in names}


def _told(cell: Cell, name: str) -> float:
    reply = cell.cold(name)
    if reply.body.decode() != f"{name} word of {name}":
        raise MeasurementFailed(f"{name} answered {reply.body[:200]!r}")
    return reply.seconds


def _names() -> list[str]:
    return [f"cold-{number}" for number in range(FUNCTIONS)]


MEASUREMENT = CellMeasurement("cold", (P50, P99, PAUSED, BARE), measure)
