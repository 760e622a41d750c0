"""Measures the memory of the parts while no function is awake."""

from __future__ import annotations

import statistics

import kubernetes_node as node
from kubernetes_cell import Cell, CellMeasurement
from rows import Bar, Row, say
from support.gateway import HELLO

FUNCTIONS = 20
PARTS = ("gateway", "control", "worker")

MEMORY = Bar("cluster at rest, nothing awake: a gateway + control + a worker, PSS", "MB", most=330)


def measure(cell: Cell, _: bool) -> list[Row]:
    """Measure rest after work: every function was called once and sleeps again."""
    names = [f"rest-{number}" for number in range(FUNCTIONS)]
    cell.workers(1)
    cell.new_workers()  # its pool of spares follows the last bursts for five minutes
    cell.upload("rest:bench", HELLO)
    with cell.deployed({name: {"image": "rest:bench"} for name in names}):
        for name in names:
            cell.get(name)
        cell.sleep_all(names)
        sizes = {part: statistics.mean(node.memory(folder) / 1e6 for folder in cell.folders(part)) for part in PARTS}
        spares = node.spares(cell.folders("worker"))
    parts = ", ".join(f"{part} {size:.1f}" for part, size in sizes.items())
    say(f"rest: {parts} MB")
    return [
        MEMORY.row(
            sum(sizes.values()),
            f"{parts} MB (1 MB = 10⁶ bytes) of all processes in their pods, the gateway's the mean of two; "
            f"{FUNCTIONS} functions deployed, called once, asleep; {spares} spares",
        )
    ]


MEASUREMENT = CellMeasurement("rest", (MEMORY,), measure)
