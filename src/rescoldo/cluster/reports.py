"""What workers report: which functions are awake, and which documents they serve."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from rescoldo.link.protocol import SILENT_SECONDS, Report
from rescoldo.model.names import FunctionId


@dataclass(frozen=True, slots=True)
class _Told:
    at: float  # when its last report came, on the loop's clock
    report: Report  # all that it has told


class Reports:
    """The last reports of all workers. `take` a report, then ask."""

    def __init__(self) -> None:
        self._workers: dict[tuple[str, str], _Told] = {}  # by namespace and sender: nobody speaks for another's worker

    def take(self, report: Report, namespace: str) -> None:
        """Keep the report of a worker of a namespace, on top of its earlier ones."""
        key = (namespace, report.sender)
        self._workers.pop((namespace, report.earlier), None)
        if report.left:
            self._workers.pop(key, None)
            return
        before = self._workers.get(key)
        self._workers[key] = _Told(_now(), report.upon(None if before is None else before.report))

    def of(self, namespace: str) -> list[Report]:
        """All that the present workers of a namespace have told."""
        return [report for place, report in self._present() if place == namespace]

    def awake(self, function: FunctionId) -> int:
        """The instances of a function that answer, in all workers."""
        return sum(report.awake.get(function, 0) for _, report in self._present())

    def refused(self, function: FunctionId) -> dict[str, str]:
        """Why workers could not take over the present document of a function, by worker."""
        return {report.worker: report.refused[function] for _, report in self._present() if function in report.refused}

    def refusals(self) -> dict[FunctionId, dict[str, str]]:
        """The functions whose present document a worker could not take over: the reasons by worker."""
        found: dict[FunctionId, dict[str, str]] = {}
        for _, report in self._present():
            for function, reason in report.refused.items():
                found.setdefault(function, {})[report.worker] = reason
        return found

    def _present(self) -> list[tuple[str, Report]]:
        """What all present workers have told, with their namespaces."""
        since = _now() - SILENT_SECONDS
        if any(told.at < since for told in self._workers.values()):
            self._workers = {key: told for key, told in self._workers.items() if told.at >= since}
        return [(namespace, told.report) for (namespace, _), told in self._workers.items()]


def _now() -> float:
    return asyncio.get_running_loop().time()
