"""What workers report: which functions are awake, and which documents they serve."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from rescoldo.link.protocol import SILENT_SECONDS, Report
from rescoldo.model.names import FunctionId


@dataclass(frozen=True, slots=True)
class _Told:
    at: float  # when its last report came, on the loop's clock
    namespace: str  # of its worker
    report: Report  # all that it has told


class Reports:
    """The last reports of all workers. `take` a report, then ask."""

    def __init__(self) -> None:
        self._workers: dict[str, _Told] = {}  # by sender

    def take(self, report: Report, namespace: str) -> None:
        """Keep the report of a worker of a namespace, on top of its earlier ones."""
        if report.left:
            self._workers.pop(report.sender, None)
            return
        before = self._workers.get(report.sender)
        self._workers[report.sender] = _Told(_now(), namespace, report.upon(None if before is None else before.report))

    def of(self, namespace: str) -> list[Report]:
        """All that the present workers of a namespace have told."""
        return [told.report for told in self._present() if told.namespace == namespace]

    def awake(self, function: FunctionId) -> int:
        """The instances of a function that answer, in all workers."""
        return sum(told.report.awake.get(function, 0) for told in self._present())

    def refused(self, function: FunctionId) -> dict[str, str]:
        """Why workers could not take over the present document of a function, by worker."""
        present = (told.report for told in self._present())
        return {report.worker: report.refused[function] for report in present if function in report.refused}

    def refusals(self) -> dict[FunctionId, dict[str, str]]:
        """The functions whose present document a worker could not take over: the reasons by worker."""
        found: dict[FunctionId, dict[str, str]] = {}
        for told in self._present():
            for function, reason in told.report.refused.items():
                found.setdefault(function, {})[told.report.worker] = reason
        return found

    def _present(self) -> list[_Told]:
        since = _now() - SILENT_SECONDS
        if any(told.at < since for told in self._workers.values()):
            self._workers = {sender: told for sender, told in self._workers.items() if told.at >= since}
        return list(self._workers.values())


def _now() -> float:
    return asyncio.get_running_loop().time()
