"""Shows users of kubectl what functions do: the columns kind, state, awake and calls of `kubectl get functions`.

A column is seconds old. Counters are no desired state, and each patch is a write of etcd: so one Function is patched at
a time, the one that was patched longest ago first, and at most one in PAUSE seconds. With 1,000 functions that all take
calls, each is patched about every 25 minutes; with 10 of them, every 15 seconds. All functions are compared once for
BATCH patches, at most every 12 seconds: for 10,000 of them that takes about 0.1 s.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from rescoldo.cluster.documents import KubeDocuments
from rescoldo.kube.errors import Changed
from rescoldo.model.errors import NotFound, RescoldoError
from rescoldo.model.names import FunctionId

PAUSE = 1.5  # seconds between two patches
BATCH = 8  # patches between two comparisons

log = logging.getLogger(__name__)


class Columns:
    """Writes the columns; `run` goes on until it is cancelled."""

    def __init__(self, documents: KubeDocuments, columns: Callable[[], Mapping[FunctionId, Mapping[str, Any]]]) -> None:
        """`columns` returns those of all functions now."""
        self._documents = documents
        self._columns = columns
        self._patched: dict[FunctionId, float] = {}  # when, on the loop's clock

    async def run(self) -> None:
        """Patch one Function after the other, until cancelled."""
        while True:
            stale = self._stale()
            for function, change in stale:
                await asyncio.sleep(PAUSE)
                try:
                    await self._patch(function, change)
                except RescoldoError as error:
                    log.debug("the columns of %s stay as they are: %s", function, error.message)
            await asyncio.sleep(PAUSE)

    def _stale(self) -> Sequence[tuple[FunctionId, Mapping[str, Any]]]:
        """The next Functions to patch, with the columns that differ: those that were patched longest ago."""
        columns, found = self._columns(), {}
        for wish in self._documents.wishes():
            now = columns.get(wish.id, {})
            if change := {name: value for name, value in now.items() if wish.shown.get(name) != value}:
                found[wish.id] = change
        self._patched = {function: at for function, at in self._patched.items() if function in columns}
        return sorted(found.items(), key=lambda one: self._patched.get(one[0], 0.0))[:BATCH]

    async def _patch(self, function: FunctionId, change: Mapping[str, Any]) -> None:
        """Raises ClusterUnavailable."""
        self._patched[function] = asyncio.get_running_loop().time()
        if (wish := self._documents.wish(function)) is not None:
            with suppress(Changed, NotFound):  # a later patch has it
                await self._documents.tell(wish, change)
