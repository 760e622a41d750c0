"""Measures ten thousand functions: whether the Kubernetes API and control can hold them."""

from __future__ import annotations

import statistics
import time

import kubernetes_node as node
from kubernetes_cell import Cell, CellMeasurement
from kubernetes_sleeping import delete_control, outage
from rows import Bar, Row, say
from support.gateway import HELLO

FUNCTIONS = 10_000
IMAGE = "many:bench"

ABOUT = f"{FUNCTIONS:,} sleeping functions"
DEPLOY = Bar(f"{ABOUT}: deployed by requests to the API, rollout=immediate", "functions/s")
MEMORY = Bar(f"{ABOUT}: memory of control more than without them, PSS", "MB")
LIST = Bar(f"{ABOUT}: list", "s")
DELETED = Bar(f"{ABOUT}: control's pod deleted, until /system lists all of them", "s")
FIRST = Bar(f"{ABOUT}: a cold call among them", "ms")


def measure(cell: Cell, quick: bool) -> list[Row]:
    count = 1000 if quick else FUNCTIONS
    names = [f"many-{number}" for number in range(count)]
    only = f"{count} functions only; " if quick else ""
    cell.upload(IMAGE, HELLO)
    before = _memory(cell)
    begin = time.perf_counter()
    try:
        cell.deploy_all({name: {"image": IMAGE} for name in names})
        rate = len(names) / (time.perf_counter() - begin)
        say(f"many: {count} deployed at {rate:.0f}/s")
        cell.wait_calm()
        memory = _memory(cell) - before
        lists = [cell.system("GET", "/functions").seconds for _ in range(3)]
        colds = [cell.cold(name).seconds * 1000 for name in names[:: count // 20]]
        away = outage(cell, count, lambda: delete_control(cell))
    finally:
        say("many: removing them")
        cell.remove(names)
    return [
        DEPLOY.row(rate, f"{only}8 clients, a new connection a request, through the gateway"),
        MEMORY.row(memory, f"{only}control alone, at rest, right after the deployments"),
        LIST.row(statistics.median(lists), f"{only}GET /system/functions, whole; median of 3"),
        FIRST.row(statistics.median(colds), f"{only}through the gateway, one at a time; median of {len(colds)}"),
        DELETED.row(away, f"{only}from the request to delete it; one run"),
    ]


def _memory(cell: Cell) -> float:
    """MB of control's pod."""
    (folder,) = cell.folders("control")
    return node.memory(folder) / 1e6


MEASUREMENT = CellMeasurement("many", (DEPLOY, MEMORY, LIST, FIRST, DELETED), measure)
