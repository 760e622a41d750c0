"""Asks workers whether a change is in force at them, and tells which ones have not confirmed it.

Control marks the change with a number, in the stream of changes of each worker, and the worker sends the number back
(link/marks.py). A worker that does not know the function confirms at once: it will look up what is true then.
  ask -> a line with the mark on each stream -> the worker takes the change over -> the mark in its report
Only workers that have reported lately are asked. A worker that was killed counts until it was silent for
SILENT_SECONDS, or its next process reports: nobody can tell that from a cut network, in which it goes on serving. A
control that has just begun knows no worker yet, and gives them ACKNOWLEDGED_SECONDS to come back. One that comes later
(it asks every 10 s) compares all that it has before it trusts it.
Example: 2 workers, one of which was killed 10 s ago: a removal is over after 5 s instead of 0.1 s, and names it.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from rescoldo.cluster.reports import Reports
from rescoldo.link.protocol import Report
from rescoldo.model.names import FunctionId, split_id
from rescoldo.tasks import set_within

ACKNOWLEDGED_SECONDS = 5.0  # for which a change waits for its workers, at most
LOOK_SECONDS = 0.5  # between two looks for workers that are gone
LEAST_WAIT = 0.001  # seconds; a clock may not show less
MOST_FIRST = 2**40  # a mark of an earlier control is none of ours: each begins anywhere


@dataclass(eq=False, slots=True)
class _Question:
    """The latest change of a function that somebody waits for."""

    mark: int
    at: float  # on the loop's clock
    confirmed: set[str] = field(default_factory=set)  # senders
    news: asyncio.Event = field(default_factory=asyncio.Event)


class Acknowledgements:
    """The marks of functions whose changes are waited for. Create it when control begins."""

    def __init__(
        self, reports: Reports, remind: Callable[[FunctionId], None], version: Callable[[FunctionId], int]
    ) -> None:
        """`remind` tells the streams of changes of a function again; `version` returns that of a function's document,
        GONE without one."""
        self._reports = reports
        self._remind = remind
        self._version = version
        self._questions: dict[FunctionId, _Question] = {}
        self._last = secrets.randbelow(MOST_FIRST)
        self._ready = _now() + ACKNOWLEDGED_SECONDS  # until then workers of an earlier control may come back

    # -- what streams need

    def mark(self, function: FunctionId) -> int:
        """The mark of a function's change; 0: nobody waits for it."""
        question = self._questions.get(function)
        return 0 if question is None else question.mark

    def asked(self, namespace: str) -> list[FunctionId]:
        """The functions of a namespace whose changes are waited for: a new stream begins with them."""
        return [function for function in self._questions if split_id(function)[1] == namespace]

    def take(self, report: Report) -> None:
        """Note the marks that a worker sends back."""
        for function, mark in (report.marks or {}).items():
            question = self._questions.get(function)
            if question is not None and question.mark == mark:
                question.confirmed.add(report.sender)
                question.news.set()

    # -- what others ask

    def ask(self, function: FunctionId) -> None:
        """Begin to wait for the workers that have not a function's present document, or still have one of it."""
        before = self._questions.get(function)
        self._last += 1
        self._questions[function] = _Question(self._last, _now())
        if before is not None:
            before.news.set()  # who waits for it waits for the later change
        self._remind(function)

    def end(self, function: FunctionId) -> None:
        """Wait no longer."""
        if (question := self._questions.pop(function, None)) is not None:
            question.news.set()

    def lagging(self, function: FunctionId) -> list[str]:
        """The pods of the workers that have not confirmed a function's change, sorted."""
        question = self._questions.get(function)
        if question is None:
            return []
        present = self._reports.of(split_id(function)[1])
        return sorted({one.worker for one in present if not self._has_confirmed(one, function, question)})

    def overdue(self) -> list[FunctionId]:
        """The functions whose changes were asked for longer than ACKNOWLEDGED_SECONDS ago."""
        since = _now() - ACKNOWLEDGED_SECONDS
        return [function for function, question in self._questions.items() if question.at <= since]

    async def wait(
        self, functions: Collection[FunctionId], seconds: float = ACKNOWLEDGED_SECONDS
    ) -> Mapping[FunctionId, list[str]]:
        """Ask for changes of functions, and return once all workers have confirmed them or `seconds` are over: the
        functions that lag, with the pods. Those go on being asked for until `end`."""
        for function in functions:
            self.ask(function)
        until = _now() + seconds
        for function in functions:
            await self._settle(function, until)
        late = {function: pods for function in functions if (pods := self.lagging(function))}
        for function in set(functions) - late.keys():
            self.end(function)
        return late

    async def _settle(self, function: FunctionId, until: float) -> None:
        """Return once a function's change is confirmed, or at `until`."""
        while (question := self._questions.get(function)) is not None:
            now = _now()
            if until - now < LEAST_WAIT or (now >= self._ready and not self.lagging(function)):
                return
            question.news.clear()
            await set_within(question.news, min(LOOK_SECONDS, until - now))

    def _has_confirmed(self, report: Report, function: FunctionId, question: _Question) -> bool:
        if report.marks is None:  # a worker of an earlier version: what it serves has to do
            version = self._version(function)
            return report.applied.get(function, version) == version
        return report.sender in question.confirmed


def _now() -> float:
    return asyncio.get_running_loop().time()
