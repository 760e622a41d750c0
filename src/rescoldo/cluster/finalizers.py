"""Keeps a deleted Function until its workers have let go of it, by a finalizer.

From the moment of the deletion there is no such function: it is in no list, no worker gets it, and workers are told to
let go of it. The finalizer is taken off once all of them have confirmed that, or after ACKNOWLEDGED_SECONDS; the log
then names those that have not. A deletion that happens while no control runs waits for the next one.

A Function gets its finalizer when it is created. One that others have created gets it with its first deployment; this
module puts it on Functions from before, one in PAUSE seconds, and takes it off those of namespaces that have no
workers here any more, whose deletion nobody else would end.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection

from rescoldo.cluster.acknowledgements import Acknowledgements
from rescoldo.cluster.documents import KubeDocuments
from rescoldo.cluster.objects import Wish
from rescoldo.kube.errors import Changed
from rescoldo.model.errors import NotFound, RescoldoError
from rescoldo.model.names import FunctionId, split_id
from rescoldo.tasks import Tasks

AT_ONCE = 16  # patches of deleted Functions
PAUSE = 0.2  # seconds between two patches of others, and before the next attempt; then 0.4, 0.6 …
MOST_PAUSES = 50  # 10 s

log = logging.getLogger(__name__)


class Finalizers:
    """Puts finalizers on Functions and takes them off; `run` goes on until it is cancelled."""

    def __init__(
        self, documents: KubeDocuments, acknowledgements: Acknowledgements, namespaces: Collection[str]
    ) -> None:
        """`namespaces` have workers here."""
        self._documents = documents
        self._acknowledgements = acknowledgements
        self._namespaces = namespaces
        self._told = documents.watch_holds()
        self._tasks = Tasks()
        self._under_way: set[FunctionId] = set()
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._calm = asyncio.Lock()

    async def run(self) -> None:
        """Keep the finalizers as they should be, until cancelled."""
        try:
            self._look_at_all()
            async for function in self._told:
                if function is None:
                    self._look_at_all()
                elif (wish := self._documents.wish(function)) is not None:
                    self._look_at(wish)
        finally:
            await self._tasks.close()

    def _look_at_all(self) -> None:
        for wish in self._documents.wishes():
            self._look_at(wish)

    def _look_at(self, wish: Wish) -> None:
        if self._is_wrong(wish) and wish.id not in self._under_way:
            self._under_way.add(wish.id)
            work = self._let_go(wish) if wish.going else self._correct(wish)
            self._tasks.spawn(f"finalizer of {wish.id}", work)

    def _is_wrong(self, wish: Wish) -> bool:
        return wish.misheld if self._is_ours(wish) else wish.held

    def _is_ours(self, wish: Wish) -> bool:
        return split_id(wish.id)[1] in self._namespaces

    async def _let_go(self, wish: Wish) -> None:
        """End a deletion: after the workers' answers, or their time."""
        if self._is_ours(wish):
            late = (await self._acknowledgements.wait([wish.id])).get(wish.id)
            self._acknowledgements.end(wish.id)
            if late:
                log.warning("%s is removed, though these workers have not confirmed it: %s", wish.id, ", ".join(late))
        await self._correct(wish)

    async def _correct(self, wish: Wish) -> None:
        """Patch a Function until its finalizer is as it should be. A deletion meanwhile is another matter."""
        failures, now = 0, self._documents.wish(wish.id)
        while now is not None and (now.uid, now.going) == (wish.uid, wish.going) and self._is_wrong(now):
            try:
                await self._patch(now)
            except RescoldoError as error:
                failures += 1
                if not isinstance(error, Changed | NotFound):  # the watch is about to tell of these
                    log.warning("the finalizer of %s stays as it is for now: %s", wish.id, error.message)
                await asyncio.sleep(PAUSE * min(failures, MOST_PAUSES))
            now = self._documents.wish(wish.id)
        self._under_way.discard(wish.id)
        if now is not None:
            self._look_at(now)

    async def _patch(self, wish: Wish) -> None:
        """Raises NotFound, Changed, ClusterUnavailable."""
        if wish.going:
            async with self._turns:
                await self._documents.hold(wish, held=False)
            return
        async with self._calm:
            await self._documents.hold(wish, held=self._is_ours(wish))
            await asyncio.sleep(PAUSE)
