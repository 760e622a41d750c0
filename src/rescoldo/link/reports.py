"""Tells control what this worker runs and serves, so that deployments and `rescoldo list` know.

  * At most one report in PACE_SECONDS, and only if something changed; without a change, one every QUIET_SECONDS.
  * A version that control has taken is not told again, before the next gap in the stream of changes: a control that was
    started anew knows nothing. Example: 1,000 functions served, one deployed: a report of one version, about 100 bytes.
  * While control is away nothing is sent. The first report after the gap has everything.
  * A change that control has marked (marks.py) is reported within HASTE_SECONDS after it is in force here. Example:
    `kubectl delete` of an awake function returns after about 0.1 s.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from rescoldo.durable import replace_text
from rescoldo.link.documents import JoinedDocuments
from rescoldo.link.known import KnownDocuments
from rescoldo.link.protocol import GONE, QUIET_SECONDS, Control, Report, Unreachable
from rescoldo.link.refusals import Refusals
from rescoldo.model.deployed import Deployed
from rescoldo.model.errors import RescoldoError
from rescoldo.model.names import FunctionId
from rescoldo.tasks import set_within

PACE_SECONDS = 1.0
HASTE_SECONDS = 0.05  # between two reports, or two looks, while control waits
LEAST_WAIT = 0.001  # seconds; a clock may not show less
LEAVE_SECONDS = 1.0  # for the last report

_LOG = logging.getLogger(__name__)


class Serving(Protocol):
    """The controller's present state, as far as control hears of it."""

    def awake(self) -> Mapping[FunctionId, int]:
        """The number of instances that answer, of each function that has any."""
        ...

    def serves(self, document: Deployed) -> bool:
        """Whether a document has been taken over as a whole."""
        ...

    def knows(self, function: FunctionId) -> bool:
        """Whether there is a deployment of a function, the present one or another."""
        ...

    def is_changing(self, function: FunctionId) -> bool:
        """Whether a change of a function is under way: the edge may still do as before."""
        ...


class Reports:
    """The reports of one process of a worker. `run` sends them until it is cancelled."""

    def __init__(
        self, control: Control, documents: JoinedDocuments, known: KnownDocuments, refusals: Refusals, sender: str,
        earlier: str = "",
    ) -> None:
        """`refusals`: of documents that are known and do not serve; each ends once its document does. `sender` and
        `earlier`: see `Report`."""
        self._control = control
        self._documents = documents
        self._known = known
        self._refusals = refusals
        self._sender = sender
        self._earlier = earlier
        self._taken = Report(sender, {}, {}, {})  # all that control has taken; `applied` is whole
        self._taken_at = float("-inf")  # seconds on the loop's clock
        self._comparisons = -1  # of the documents, when a report was taken; a later one follows a gap
        self._problem = ""  # why control did not take the last report

    async def run(self, serving: Serving) -> None:
        """Report whenever something changes, until cancelled."""
        while True:
            await self._wait(serving)
            if self._documents.is_reachable():
                await self._report(serving)

    async def leave(self) -> None:
        """Tell control that this process ends, so that nobody waits for it. Control forgets it anyway in the end."""
        if self._documents.is_reachable():
            with suppress(RescoldoError, TimeoutError):
                async with asyncio.timeout(LEAVE_SECONDS):
                    await self._control.report(Report(self._sender, {}, {}, {}, left=True))

    async def _wait(self, serving: Serving) -> None:
        """Return after PACE_SECONDS, or earlier with a mark that control waits for."""
        marks, loop = self._documents.marks, asyncio.get_running_loop()
        until = loop.time() + PACE_SECONDS
        await asyncio.sleep(HASTE_SECONDS)
        while (left := until - loop.time()) > LEAST_WAIT and not self._in_force(serving):
            if marks.due:
                await asyncio.sleep(min(left, HASTE_SECONDS))
            else:
                await set_within(marks.noted, left)

    def _in_force(self, serving: Serving) -> dict[FunctionId, int]:
        """The marks of changes that this worker has taken over, or refused."""
        return {one: mark for one, mark in self._documents.marks.due.items() if self._has_settled(one, serving)}

    def _has_settled(self, function: FunctionId, serving: Serving) -> bool:
        if self._documents.is_asking(function) or serving.is_changing(function):
            return False
        known = self._known.get(function)
        if known is None:
            return not serving.knows(function)
        return serving.serves(known) or function in self._refusals or function in self._documents.refusals

    async def _report(self, serving: Serving) -> None:
        comparisons = self._documents.comparisons
        served = self._served(serving)
        for function in self._refusals.keys() & served.keys():
            self._refusals.end(function)
        now = Report(self._sender, serving.awake(), served, {**self._refusals, **self._documents.refusals})
        quiet = asyncio.get_running_loop().time() - self._taken_at < QUIET_SECONDS
        marks = self._in_force(serving)
        if quiet and not marks and now == self._taken and comparisons == self._comparisons:
            return
        before: Mapping[FunctionId, int] = self._taken.applied
        applied = {one: version for one, version in now.applied.items() if before.get(one) != version}
        if comparisons != self._comparisons:
            applied = dict(now.applied)
        applied |= dict.fromkeys(before.keys() - now.applied.keys(), GONE)
        if await self._send(Report(now.sender, now.awake, applied, now.refused, marks, earlier=self._earlier)):
            self._documents.marks.end(marks)
            self._taken, self._comparisons = now, comparisons
            self._taken_at = asyncio.get_running_loop().time()

    def _served(self, serving: Serving) -> dict[FunctionId, int]:
        return {one.id: one.version for one in self._known.documents() if serving.serves(one)}

    async def _send(self, report: Report) -> bool:
        """Return whether control has taken it."""
        try:
            await self._control.report(report)
        except Unreachable:  # it may have arrived; the stream of changes says so, too
            self._comparisons = -1
            return False
        except RescoldoError as error:
            if self._problem != error.message:
                _LOG.warning("control does not take this worker's report: %s", error.message)
            self._problem = error.message
            await asyncio.sleep(QUIET_SECONDS)
            return False
        self._problem = ""
        return True


def sender_name() -> str:
    """A name for the reports of this process: its pod, and a random part."""
    return f"{socket.gethostname()}/{secrets.token_hex(5)}"


def take_over_from(file: Path, sender: str) -> str:
    """Return the sender that the last process has written to a file of this worker, and write `sender`; empty: there
    was none. Raises OSError."""
    try:
        earlier = file.read_text()
    except FileNotFoundError:
        earlier = ""
    replace_text(file, sender)
    return earlier
