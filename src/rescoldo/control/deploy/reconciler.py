"""Reconciles the fleet with the source of its functions, which others may change, too.

A change of ours is saved first and applied then. A change of others is saved already, and is only applied. The
reconciler reads it under the function's lock: by then a deployment of ours has ended, and its result is read:
  watch() names a function -> its lock -> read it -> it appears | a revision is started aside and takes over | it goes
"""

from __future__ import annotations

import asyncio
import logging

from rescoldo.control.deploy.change_context import ChangeContext
from rescoldo.control.deploy.deployments import Deployments
from rescoldo.control.deploy.first_starts import FirstStarts
from rescoldo.control.deploy.pauses import Pauses
from rescoldo.control.deploy.removals import Removals
from rescoldo.control.deploy.switch import Switch
from rescoldo.control.deploy.traffic import Traffic
from rescoldo.control.fleet.entry import Entry
from rescoldo.link.protocol import Unreachable
from rescoldo.link.refusals import Refusals
from rescoldo.model.errors import Busy, RescoldoError, RolloutFailed, StoreError
from rescoldo.model.function import Function
from rescoldo.model.names import FunctionId, revision_key
from rescoldo.model.standing import PLAIN
from rescoldo.store.protocol import FunctionSource
from rescoldo.tasks import Tasks

AT_ONCE = 8  # functions
AGAIN_SECONDS = 5.0  # from an attempt without room to the next

log = logging.getLogger(__name__)


class Reconciler:
    """Follows one source. It takes over deployments, requested replicas and pauses; the rest of a standing (a trial, a
    failed start) is what each controller has seen itself, and is taken over with a function that appears."""

    def __init__(
        self, functions: FunctionSource, context: ChangeContext, switch: Switch, traffic: Traffic,
        deployments: Deployments, removals: Removals, trials: FirstStarts, pauses: Pauses,
        refusals: Refusals, tasks: Tasks,
    ) -> None:
        """Create it before the functions are read for the first time: it takes over every change from here on. It
        notes in `refusals` why a function's present deployment does not serve."""
        self._functions = functions
        self._context = context
        self._switch = switch
        self._traffic = traffic
        self._deployments = deployments
        self._removals = removals
        self._trials = trials
        self._pauses = pauses
        self._refusals = refusals
        self._tasks = tasks
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._waiting: set[FunctionId] = set()  # for a turn
        self._told = functions.watch()

    async def run(self) -> None:
        """Take over changes, until cancelled or until the source is closed."""
        async for changed in self._told:
            try:
                for name in [changed] if changed is not None else await self._different():
                    self._take_over_soon(name)
            except StoreError as error:  # a source that was away asks for a full comparison on its return
                log.warning("cannot compare the deployed functions: %s", error)

    async def look_up(self, name: FunctionId) -> None:
        """Let a function appear that the source may find by name alone; nothing happens if there is none. Raises the
        source's errors."""
        await self._reconcile(name)

    def is_changing(self, name: FunctionId) -> bool:
        """Whether a change of a function is under way, ours or one of others."""
        return self._context.changes.of(name).locked()

    async def _different(self) -> list[FunctionId]:
        """The functions of which fleet and source do not agree."""
        requested, standings = await self._functions.requested_replicas(), await self._functions.standings()
        gone = {entry.id: entry for entry in self._context.fleet.entries.functions()}
        different = []
        for function in await self._functions.functions():
            entry, name = gone.pop(function.id, None), function.id
            if entry is None or (entry.function, entry.requested, entry.standing) != (
                function, requested.get(name, 0), standings.get(name, PLAIN)
            ):  # fmt: skip
                different.append(name)
        return [*gone, *different]

    def _take_over_soon(self, name: FunctionId) -> None:
        """Reconcile a function in the background, unless that waits for its turn already: a revision that does not
        start holds up its own function alone, for its ready timeout."""
        if name not in self._waiting:
            self._waiting.add(name)
            self._tasks.spawn(f"reconcile {name}", self._take_over(name))

    async def _take_over(self, name: FunctionId) -> None:
        """Reconcile a function, or note why that is refused."""
        async with self._turns:
            self._waiting.discard(name)  # a change that is told from now on may come too late for this turn
            try:
                await self._reconcile(name)
            except StoreError as error:  # a source that was away asks for a full comparison on its return
                log.warning("cannot reconcile %s with its changed deployment: %s", name, error.message)
                if isinstance(error, Unreachable):  # a removal is not compared on its return: it is forgotten
                    self._tasks.spawn(f"reconcile {name} again", self._take_over_again(name))
            except RescoldoError as error:
                self._refuse(name, error.message)
                if isinstance(error, Busy):  # the platform has no room: that is no fault of the function
                    self._tasks.spawn(f"reconcile {name} again", self._take_over_again(name))

    async def _take_over_again(self, name: FunctionId) -> None:
        await asyncio.sleep(AGAIN_SECONDS)
        self._take_over_soon(name)

    def _refuse(self, name: FunctionId, reason: str) -> None:
        log.warning("%s is not taken over: %s", name, reason)
        self._refusals.note(name, reason)

    async def _reconcile(self, name: FunctionId) -> None:
        async with self._context.changes.of(name):
            function, entry = await self._functions.function(name), self._context.fleet.entries.get(name)
            if function is not None:
                function, shares = await self._deployments.shares(function)
                if entry is None:
                    await self._appear(function, shares)
                    return
                await self._take_wishes(entry)
                if entry.function != function:
                    await self._change(entry, function, shares)
            elif entry is not None:
                self._refusals.end(name)
                await self._removals.apply(entry)

    async def _appear(self, function: Function, shares: list[Function]) -> None:
        asked = await self._functions.requested_replicas(of=function.id)
        standings = await self._functions.standings(of=function.id)
        policy = self._context.policies.stored(function)
        entry = self._context.fleet.entries.add(function, policy, requested=asked.get(function.id, 0))
        self._context.fleet.standings.restore(entry, standings.get(function.id, PLAIN))
        await self._let_share(shares)
        await self._context.fleet.routes.publish(entry)
        self._trials.resume(entry)
        self._context.fleet.wakes.keep_awake_soon(entry)

    async def _take_wishes(self, entry: Entry) -> None:
        """Take over a requested number and a pause; changes of ours that are not saved yet win."""
        fleet = self._context.fleet
        asked = await self._functions.requested_replicas(of=entry.id)
        if fleet.requested.take_over(entry, asked.get(entry.id, 0)) and entry.kept:
            if entry.awake is not None and entry.awake.wanted < entry.kept:
                fleet.replicas.want(entry, entry.kept, "others requested it with scale")
            fleet.wakes.keep_awake_soon(entry)
        standing = (await self._functions.standings(of=entry.id)).get(entry.id, PLAIN)
        await self._pauses.take_over(entry, paused=standing.paused)
        if self._context.check.elsewhere and fleet.standings.is_saved(entry):  # others have seen it start, or fail
            fleet.standings.restore(entry, standing)

    async def _let_share(self, shares: list[Function]) -> None:
        """Publish past revisions that get a share, before the edge hears of the split."""
        for share in shares:
            if revision_key(share.id, share.revision) not in self._context.fleet.entries:
                entry = self._traffic.add(share)
                await self._context.fleet.routes.publish(entry)
                self._context.fleet.wakes.keep_awake_soon(entry)

    async def _change(self, entry: Entry, function: Function, shares: list[Function]) -> None:
        """Let another revision or another split serve. If the revision does not start, the present one keeps
        serving."""
        if (entry.function.revision, entry.function.generation) == (function.revision, function.generation):
            await self._let_share(shares)
            await self._traffic.apply(entry, function)
            return
        policy, awake = self._context.policies.stored(function), None
        if policy.checked and entry.awake is not None:
            try:
                awake = await self._context.check.check(entry, function, policy)
            except RolloutFailed as error:
                self._refuse(function.id, f"revision {function.revision} did not start: {error.message}")
                return
        self._refusals.end(function.id)
        await self._let_share(shares)
        await self._switch.apply(entry, function, policy, awake, entry.standing)
