"""Tells in a Function's condition Acknowledged which workers have not taken over what was changed.

The condition is there only after something went wrong: False with the workers' pods while they lag, for longer than
ACKNOWLEDGED_SECONDS, or refuse the change, or while no worker has a deployment; True once all is well again. So a
deployment and a change of a secret cost no request for it, and an incident costs two. One Function is patched at a
time, at most one in PAUSE seconds.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from contextlib import suppress

from rescoldo.cluster.acknowledgements import Acknowledgements
from rescoldo.cluster.documents import KubeDocuments
from rescoldo.cluster.objects import Wish
from rescoldo.cluster.reports import Reports
from rescoldo.cluster.unowned import Unowned
from rescoldo.kube.conditions import ACKNOWLEDGED, Condition, with_conditions
from rescoldo.kube.errors import Changed
from rescoldo.model.deployed import NEW
from rescoldo.model.errors import NotFound, RescoldoError
from rescoldo.model.names import FunctionId

LOOK_SECONDS = 1.0
PAUSE = 0.2  # seconds between two patches
NO_WORKER = "NoWorker"  # reasons
LAGS = "WorkersLag"
REFUSED = "WorkersRefuse"
SHOWN = 10  # pods in one message

log = logging.getLogger(__name__)


class Lags:
    """Keeps the condition; `run` goes on until it is cancelled. Create it once the documents are ready."""

    def __init__(
        self, documents: KubeDocuments, acknowledgements: Acknowledgements, reports: Reports, unowned: Unowned
    ) -> None:
        self._documents = documents
        self._acknowledgements = acknowledgements
        self._reports = reports
        self._unowned = unowned
        self._unwell: set[FunctionId] = set()  # whose condition says False

    async def run(self) -> None:
        """Compare and patch, until cancelled."""
        self._resume()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self._end_confirmed()
            wanted = self._wanted()
            for function in wanted.keys() | self._unwell:
                wish = self._documents.wish(function)
                if wish is None or wish.deployed == NEW:
                    self._unwell.discard(function)
                elif (change := self._change(wish, wanted.get(function))) is not None:
                    await self._tell(wish, change)
                    await asyncio.sleep(PAUSE)

    def _resume(self) -> None:
        """Find out anew what an earlier control has told."""
        for wish in self._documents.wishes():
            if (told := _told(wish)) is not None and told["status"] == "False":
                self._unwell.add(wish.id)
                if told["reason"] == NO_WORKER:
                    self._unowned.add(wish.id)
                else:
                    self._acknowledgements.ask(wish.id)

    def _end_confirmed(self) -> None:
        for function in self._acknowledgements.overdue():
            if not self._acknowledgements.lagging(function) or self._documents.version(function) == NEW:
                self._acknowledgements.end(function)

    def _wanted(self) -> Mapping[FunctionId, Condition]:
        """The conditions of the functions that are not well."""
        found = {
            function: Condition(ACKNOWLEDGED, False, REFUSED, refusals_text(refusals))
            for function, refusals in self._reports.refusals().items()
        }
        for function in self._acknowledgements.overdue():
            pods = self._acknowledgements.lagging(function)
            found[function] = Condition(ACKNOWLEDGED, False, LAGS, lag_text(pods))
        for function, reason in self._unowned.reasons().items():
            found[function] = Condition(ACKNOWLEDGED, False, NO_WORKER, reason)
        return found

    def _change(self, wish: Wish, wanted: Condition | None) -> Condition | None:
        """The condition that a Function is to get; None: it is as it should be, or nobody knows yet."""
        told = _told(wish)
        if wanted is not None:
            self._unwell.add(wish.id)
            same = told is not None and (told["status"], told["message"]) == ("False", wanted.message)
            return None if same else wanted
        if self._acknowledgements.mark(wish.id):
            return None
        if told is None or told["status"] == "True":
            self._unwell.discard(wish.id)
            return None
        return Condition(ACKNOWLEDGED, True, "Acknowledged")

    async def _tell(self, wish: Wish, condition: Condition) -> None:
        status = with_conditions({"conditions": wish.conditions}, [condition], wish.generation, time.time())
        try:
            with suppress(Changed, NotFound):  # a later look has it
                # without observedGeneration: a spec that is not deployed yet stays to be deployed
                await self._documents.tell(wish, {"conditions": status["conditions"]})
        except RescoldoError as error:
            log.debug("the condition of %s stays as it is: %s", wish.id, error.message)


def lag_text(pods: list[str]) -> str:
    """What a user reads of workers that have not confirmed a change."""
    rest = f" and {len(pods) - SHOWN} more" if len(pods) > SHOWN else ""
    return f"these workers have not confirmed the last change: {', '.join(pods[:SHOWN])}{rest}"


def refusals_text(refusals: Mapping[str, str]) -> str:
    """What a user reads of workers that could not take over a change; by pod, the reason of each."""
    return "; ".join(f"{pod} could not take over the last change: {refusals[pod]}" for pod in sorted(refusals)[:SHOWN])


def _told(wish: Wish) -> Mapping[str, str] | None:
    return next((one for one in wish.conditions if one["type"] == ACKNOWLEDGED), None)
