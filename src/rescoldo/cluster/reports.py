"""What workers report: which functions are awake, and which documents they serve."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rescoldo.model.names import FunctionId

FRESH_SECONDS = 30.0  # a worker reports every 10 s at least; one that has not done so for longer counts no more


@dataclass(slots=True)
class _Worker:
    at: float  # of its last report, on the loop's clock
    awake: Mapping[FunctionId, int] = field(default_factory=dict)
    refused: Mapping[FunctionId, str] = field(default_factory=dict)
    applied: dict[FunctionId, int] = field(default_factory=dict)  # version of each function's document


class Reports:
    """The last reports of all workers. `take` a report, then ask."""

    def __init__(self) -> None:
        self._workers: dict[str, _Worker] = {}  # by sender
        self._changed = asyncio.Event()

    def take(self, report: Any) -> None:
        """Keep a worker's report, in the place of its last one."""
        worker = self._workers.setdefault(report.sender, _Worker(0.0))
        worker.at = _now()
        worker.awake, worker.refused = report.awake, report.refused
        worker.applied |= report.applied
        self._changed.set()
        self._changed = asyncio.Event()

    def awake(self, function: FunctionId) -> int:
        """The instances of a function that answer, in all workers."""
        return sum(worker.awake.get(function, 0) for worker in self._fresh())

    def _fresh(self) -> list[_Worker]:
        since = _now() - FRESH_SECONDS
        if any(worker.at < since for worker in self._workers.values()):
            self._workers = {name: worker for name, worker in self._workers.items() if worker.at >= since}
        return list(self._workers.values())


def _now() -> float:
    return asyncio.get_running_loop().time()
