"""Deploys what users change in the API server, with kubectl or by GitOps: the second door to the same room.

A Function whose spec was not deployed yet is handed to its owner as a deployment over the HTTP API would be, so both
doors have the same checks and messages. What is refused is told in the Function's conditions, and tried again every
RETRY_SECONDS: the bundle of its image may be uploaded later, for example.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from rescoldo.cluster.documents import KubeDocuments
from rescoldo.cluster.objects import Wish
from rescoldo.cluster.protocol import Asked, NoOwner, Owners
from rescoldo.kube.conditions import ACCEPTED, READY, Condition, with_conditions
from rescoldo.kube.errors import Changed
from rescoldo.model.errors import Busy, RescoldoError
from rescoldo.model.function import FunctionSpec, spec_to_json
from rescoldo.model.names import FunctionId
from rescoldo.policy.backoff import retry_delay
from rescoldo.tasks import Tasks

AT_ONCE = 16  # deployments
RETRY_SECONDS = 60.0  # between two attempts of what was refused

log = logging.getLogger(__name__)


class Refused(RescoldoError):
    """The owner refuses the deployment."""


class Wishes:
    """Deploys specs; `run` goes on until it is cancelled."""

    def __init__(
        self, documents: KubeDocuments, owners: Owners, save: Callable[[FunctionSpec], Awaitable[object]]
    ) -> None:
        """`save` deploys where no owner answers: the owner takes it over once it is back."""
        self._documents = documents
        self._owners = owners
        self._save = save
        self._told = documents.watch_wishes()
        self._tasks = Tasks()
        self._under_way: set[FunctionId] = set()
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def run(self) -> None:
        """Deploy what is asked for, until cancelled."""
        try:
            async for function in self._told:
                for one in [function] if function is not None else [wish.id for wish in self._documents.wishes()]:
                    self._begin(one)
        finally:
            await self._tasks.close()

    def _begin(self, function: FunctionId) -> None:
        if function not in self._under_way:
            self._under_way.add(function)
            self._tasks.spawn(f"deploy {function}", self._follow(function))

    async def _follow(self, function: FunctionId) -> None:
        """Bring one function to what its users ask for."""
        failures = 0
        try:
            while (wish := self._documents.wish(function)) is not None and wish.undone:
                try:
                    async with self._turns:
                        await self._fulfil(wish)
                    failures = 0
                    pause = RETRY_SECONDS  # unless it is deployed now
                except Changed:
                    continue
                except RescoldoError as error:  # no room now, or no API server
                    failures += 1
                    pause = retry_delay(failures)
                    log.warning("cannot deploy %s yet: %s", function, error.message)
                await self._wait(wish, pause)
        finally:
            self._under_way.discard(function)

    async def _wait(self, wish: Wish, seconds: float) -> None:
        """Return when a function has another spec, is done, or the time is over."""
        until = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < until:
            now = self._documents.wish(wish.id)
            if now is None or not now.undone or now.generation != wish.generation:
                return
            await asyncio.sleep(min(1.0, seconds))

    async def _fulfil(self, wish: Wish) -> None:
        """Deploy a spec once, and tell the result. Raises Busy, Changed, ClusterUnavailable."""
        try:
            await self._deploy(wish.spec)
        except Busy:
            raise
        except RescoldoError as error:
            await self._tell(wish, _refusal(wish, error))
        else:
            now = self._documents.wish(wish.id)
            if now is not None and now.generation == wish.generation and now.undone:
                await self._tell(now, [Condition(ACCEPTED, True, "Valid")])  # it was deployed so already

    async def _deploy(self, spec: FunctionSpec) -> None:
        asked = Asked(
            spec.id, "POST", "/system/functions",
            {"content-type": "application/json"}, json.dumps(spec_to_json(spec)).encode(),
        )  # fmt: skip
        try:
            async with self._owners.ask(asked) as answered:
                reason = await answered.text()
        except NoOwner as error:
            log.warning("%s", error.message)
            await self._save(spec)
            return
        if answered.status == Busy.status:
            raise Busy(reason)
        if answered.status >= 400:
            raise Refused(reason)

    async def _tell(self, wish: Wish, conditions: list[Condition]) -> None:
        status = with_conditions({"conditions": wish.conditions}, conditions, wish.generation, time.time())
        if wish.observed != wish.generation or _without_times(status["conditions"]) != _without_times(wish.conditions):
            await self._documents.tell(wish, status)


def _refusal(wish: Wish, error: RescoldoError) -> list[Condition]:
    serving = f"; revision {wish.status['revision']} keeps serving" if wish.status else ""
    return [
        Condition(ACCEPTED, False, "Refused", error.message),
        Condition(READY, False, "Refused", error.message + serving),
    ]


def _without_times(conditions: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Conditions in a form that compares equal while they say the same."""
    return [{name: value for name, value in one.items() if name != "lastTransitionTime"} for one in conditions]
