"""Deployments that control has saved itself, since no owner answered: which of them no worker has yet.

A worker hears of a function when it is called or asked for. So control asks the owner of each such function every
PAUSE_SECONDS, as it does for minimums (renewals.py), once its namespace has a worker at all: the owner then looks the
function up, tries its first start, and reports the version that it serves.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from rescoldo.cluster.documents import KubeDocuments
from rescoldo.cluster.protocol import Asked, NoOwner, Owners
from rescoldo.cluster.reports import Reports
from rescoldo.model.deployed import NEW
from rescoldo.model.names import FunctionId, split_id
from rescoldo.tasks import Tasks

PAUSE_SECONDS = 10.0  # between two requests for a function
LOOK_SECONDS = 1.0
AT_ONCE = 8  # requests

log = logging.getLogger(__name__)


class Unowned:
    """The functions whose present deployment no worker has. `run` goes on until it is cancelled."""

    def __init__(self, documents: KubeDocuments, owners: Owners, reports: Reports) -> None:
        self._documents = documents
        self._owners = owners
        self._reports = reports
        self._next: dict[FunctionId, float] = {}  # when its owner is asked next, on the loop's clock
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._tasks = Tasks()

    def __contains__(self, function: object) -> bool:
        return function in self._next

    def add(self, function: FunctionId) -> None:
        """Note that control has saved a deployment of a function, and no worker has answered."""
        self._next[function] = 0.0

    def reasons(self) -> dict[FunctionId, str]:
        """What a user reads of each."""
        return {function: self._reason(function) for function in self._next}

    async def run(self) -> None:
        """Ask owners, until cancelled."""
        try:
            while True:
                for function in list(self._next):
                    self._look(function)
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            await self._tasks.close()

    def _look(self, function: FunctionId) -> None:
        now, version = asyncio.get_running_loop().time(), self._documents.version(function)
        present = self._reports.of(split_id(function)[1])
        if version == NEW or any(report.applied.get(function) == version for report in present):
            del self._next[function]
        elif present and now >= self._next[function]:
            self._next[function] = now + PAUSE_SECONDS
            self._tasks.spawn(f"find an owner of {function}", self._ask(function))

    async def _ask(self, function: FunctionId) -> None:
        name, namespace = split_id(function)
        asked = Asked(function, "POST", f"/system/function/{name}/keep?namespace={namespace}", {}, b"")
        with suppress(NoOwner):
            async with self._turns, self._owners.ask(asked):
                pass

    def _reason(self, function: FunctionId) -> str:
        namespace = split_id(function)[1]
        if pods := sorted({report.worker for report in self._reports.of(namespace)}):
            return f"no worker has taken it over yet, and none of these has confirmed it: {', '.join(pods)}"
        return f"no worker has taken it over yet: namespace {namespace} has none that is connected to control"
