"""Why calls failed: joins the edge's reports of failed calls with the ends of instances.

Only the edge knows that it answered a call in place of an instance. Only the node knows how the instance ended. The
two facts arrive in either order: the edge may see a connection close before the node notices the end, and the
controller, which forwards the edge's reports, may have been away. Only the lines in the functions' logs outlive
this process.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus

from rescoldo.model.calls import FailedCall
from rescoldo.model.names import FunctionId, InstanceId
from rescoldo.model.text import one_line
from rescoldo.tasks import Tasks, set_within

KEPT = 10  # failed calls kept of each function: the last ones
PATIENCE = 2.0  # seconds after a failed call within which the node notices the end that caused it
SOONER = 0.25  # seconds before it: the edge may see the connection close later than the node sees the process end
_ENDS = 1000  # ends kept, of all instances together: the last ones
_MOST_REASON = 300  # characters

UNREACHED = "its instance could not be reached, but is running"
SILENT = "its instance closed the connection or sent an invalid response, but is running"
LATE = "its instance did not answer in time"

Write = Callable[[FunctionId, InstanceId, list[str]], None]


@dataclass(frozen=True, slots=True)
class _End:
    function: FunctionId
    instance: InstanceId
    at: float  # Unix seconds
    reason: str


class FailedCalls:
    """Logs each failed call in its function's log, and keeps the last ones."""

    def __init__(self, write: Write, runs: Callable[[InstanceId], bool], tasks: Tasks) -> None:
        """`write` adds lines to a function's log; `runs` returns whether an instance is here."""
        self._write = write
        self._runs = runs
        self._ends: deque[_End] = deque(maxlen=_ENDS)
        self._kept: dict[FunctionId, deque[FailedCall]] = {}
        self._ended = asyncio.Event()  # replaced at each end
        self._tasks = tasks

    def note_end(self, function: FunctionId, instance: InstanceId, reason: str) -> None:
        """Record that a process of the instance has ended now. The instance may get another process, which may end
        again."""
        self._ends.append(_End(function, instance, time.time(), reason))
        self._ended.set()
        self._ended = asyncio.Event()

    def explain(self, calls: Iterable[FailedCall], more: Mapping[FunctionId, int]) -> None:
        """Explain calls that the edge has answered; `more` counts each function's other failed calls. Calls of
        unknown instances are dropped: their function was removed."""
        known = [call for call in calls if self._runs(call.instance) or self._has_ended(call.instance)]
        for call in known:
            self._tasks.spawn("explain a failed call", self._explain(call))
        for function in {call.function for call in known} & more.keys():
            number = more[function]
            self._write(function, InstanceId(""), [f"{number} more calls failed; too many to log each of them"])

    def record(self, call: FailedCall) -> None:
        """Keep a call whose reason is known, and write it to the function's log."""
        call = replace(call, reason=one_line(call.reason[:_MOST_REASON]))
        self._kept.setdefault(call.function, deque(maxlen=KEPT)).append(call)
        self._write(call.function, call.instance, [f"call {call.call_id or '-'} failed: {call.reason}"])

    def recent(self, function: FunctionId) -> list[FailedCall]:
        """The function's last failed calls, oldest first."""
        return list(self._kept.get(function, ()))

    def forget(self, function: FunctionId) -> None:
        """Forget a removed function. Its calls that still await an explanation find no end any more and are
        dropped."""
        self._kept.pop(function, None)
        self._ends = deque((end for end in self._ends if end.function != function), maxlen=_ENDS)

    def _has_ended(self, instance: InstanceId) -> bool:
        return any(end.instance == instance for end in self._ends)

    async def _explain(self, call: FailedCall) -> None:
        if call.status == HTTPStatus.GATEWAY_TIMEOUT:
            self.record(replace(call, reason=LATE))
            return
        deadline = time.time() + PATIENCE
        while (end := self._end_of(call, SOONER)) is None and (left := deadline - time.time()) > 0:
            if not await set_within(self._ended, left):
                break
        end = end or self._end_of(call, PATIENCE)
        if end is not None:
            self.record(replace(call, reason=f"its instance ended: {end.reason}"))
        elif self._runs(call.instance):
            unreached = call.status == HTTPStatus.SERVICE_UNAVAILABLE
            self.record(replace(call, reason=UNREACHED if unreached else SILENT))

    def _end_of(self, call: FailedCall, sooner: float) -> _End | None:
        """The end that cut `call` off: the first end of its instance after the call, or at most `sooner` seconds
        before it. Processes that die one after another on one socket share the instance's name, so the name alone
        does not decide."""
        for end in self._ends:
            if end.instance == call.instance and call.at - sooner <= end.at <= call.at + 2 * PATIENCE:
                return end
        return None
