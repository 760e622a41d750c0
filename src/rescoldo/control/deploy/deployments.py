"""Deploys functions: gives each its revisions, one change of a function at a time.

The order of an update keeps traffic from a broken revision, and keeps a killed controller from leaving half an
update:
  start the new revision aside -> save it -> let it take over -> the old one finishes its requests
Until the revision is saved, the next controller does not know it and stops its instances.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace

from rescoldo.control.deploy.change_context import ChangeContext
from rescoldo.control.deploy.first_starts import FirstStarts
from rescoldo.control.deploy.revisions import past_revision
from rescoldo.control.deploy.switch import Switch
from rescoldo.control.deploy.traffic import Traffic
from rescoldo.control.fleet.entry import Entry
from rescoldo.kinds.deployment import meant
from rescoldo.model.errors import NotFound, RolloutFailed
from rescoldo.model.function import Function, FunctionPolicy, FunctionSpec
from rescoldo.model.names import FunctionId
from rescoldo.model.revision import Revision
from rescoldo.model.standing import PLAIN

UNTRIED = "no worker has taken it over yet: it is saved, and starts once one of its namespace answers"

log = logging.getLogger(__name__)


class Deployments:
    """Creates functions, and gives them revisions."""

    def __init__(self, context: ChangeContext, trials: FirstStarts, switch: Switch, traffic: Traffic) -> None:
        self._context = context
        self._trials = trials
        self._switch = switch
        self._traffic = traffic

    async def load(self) -> None:
        """Read the deployed functions, their shares of traffic, their requested replicas and their standings."""
        for function in await self._context.store.functions():
            found, shares = await self.shares(function)
            self._context.fleet.entries.add(found, self._context.policies.stored(found))
            for share in shares:
                self._traffic.add(share)
        await self._context.fleet.requested.load(self._context.fleet.entries)
        await self._context.fleet.standings.load(self._context.fleet.entries)

    async def shares(self, function: Function) -> tuple[Function, list[Function]]:
        """A function as the store has it, and its past revisions that have a share of its traffic. If one of these is
        missing, the function comes without a split."""
        past = await self._context.store.revisions(function.id) if function.traffic else []
        kept = {revision.number: revision for revision in past}
        if missing := function.traffic.keys() - kept.keys() - {function.revision}:
            log.warning("%s: revision %d is missing; all calls go to the current revision", function.id, min(missing))
            return replace(function, traffic={}), []
        return function, [kept[number].serving(function) for number in function.traffic.keys() - {function.revision}]

    async def deploy(self, spec: FunctionSpec, *, must_exist: bool, start: bool = True, patience: float = 0.0) -> bool:
        """See api.protocol.Deployments. A revision that must start first is started aside."""
        await self._context.images.look_up(spec.image)
        policy = self._context.policies.checked(spec)
        checked = policy.checked and start
        patience = patience if checked else 0.0
        if must_exist:
            self._check_exists(spec.id)
        digest = self._context.images.deployable_digest(spec.image)
        self._context.images.check_bundle(digest, spec.image)
        spec = meant(spec, self._context.images.kind(digest))
        with self._context.images.in_use(digest):
            async with self._context.spaces.deploying(spec), self._context.changes.of(spec.id):
                if spec.id in self._context.fleet.entries:
                    entry = self._context.fleet.entries[spec.id]
                    await self._update(entry, spec, digest, policy, checked=checked)
                elif must_exist:  # once more: it may have been removed before the lock was free
                    self._check_exists(spec.id)
                else:
                    entry = await self._create(spec, digest, policy, checked=checked)
                function = entry.function
        self._context.images.collect_soon()
        return await self._trials.outcome(entry, function, patience)

    def _check_exists(self, function: FunctionId) -> None:
        if function not in self._context.fleet.entries:
            raise NotFound(f"function {function} is not deployed; create it with POST")

    async def _create(self, spec: FunctionSpec, digest: str, policy: FunctionPolicy, *, checked: bool) -> Entry:
        """Deploy a first revision at once, since it has nothing to protect, and try it in the background."""
        now = time.time()
        # the generation tells its instances from those of a removed function of its name: both have a revision 1
        function = Function(spec, digest, now, revised_at=now, generation=time.time_ns())
        standing = replace(PLAIN, untried=checked)
        await self._context.store.save_function(function, standing=standing)
        entry = self._context.fleet.entries.add(function, policy, standing=standing)
        await self._context.fleet.routes.publish(entry)
        if checked:
            self._trials.begin(entry)
        self._context.fleet.wakes.keep_awake_soon(entry)
        return entry

    async def _update(
        self, entry: Entry, spec: FunctionSpec, digest: str, policy: FunctionPolicy, *, checked: bool
    ) -> None:
        """Give a function a new revision, unless it would equal the current one."""
        current = entry.function
        if (meant(current.spec, self._context.images.kind(current.digest)), current.digest) == (spec, digest):
            self._again(entry, checked=checked)
            if current.traffic:
                await self._traffic.route(entry, {})
            return
        number = await self._next_revision(current)
        function = Function(spec, digest, current.created_at, number, time.time(), current.generation)
        unprotected = entry.standing.untried or entry.standing.paused  # nothing to protect, or no call to serve
        if checked and (unprotected or self._context.check.elsewhere):
            await self._switch.switch(entry, function, policy, None, untried=True)
            return
        awake = None
        if checked:
            try:
                awake = await self._context.check.check(entry, function, policy)
            except RolloutFailed as error:
                failed = replace(Revision.of(function), failure=error.message)
                await self._context.store.save_failed(function.id, failed, keep=self._context.kept)
                after = "stays, although its last start failed, too" if entry.failure is not None else "keeps serving"
                raise RolloutFailed(
                    f"revision {number} of {function.id} did not start and takes no traffic; revision "
                    f"{current.revision} {after}: {error.message}"
                ) from error
        await self._switch.switch(entry, function, policy, awake)

    def _again(self, entry: Entry, *, checked: bool) -> None:
        """Handle a deployment that changes nothing: try a revision that failed to start or was never tried."""
        due = entry.failure is not None or entry.standing.untried
        entry.failure = None
        self._context.fleet.standings.note(entry, failure="", untried=entry.standing.untried and checked)
        if checked and due and entry.trial is None and not entry.standing.paused:
            self._trials.begin(entry)

    async def _next_revision(self, current: Function) -> int:
        """A number that was never used, not even by a failed revision."""
        return max(current.revision, *(past.number for past in await self._context.store.revisions(current.id)), 0) + 1

    def notes(self, spec: FunctionSpec) -> list[str]:
        """See api.protocol.Deployments."""
        entry = self._context.fleet.entries.get(spec.id)
        found = self._context.policies.notes(spec, entry.function.digest if entry is not None else "")
        waits = self._context.check.elsewhere and entry is not None and entry.standing.untried
        return [*found, UNTRIED] if waits else found

    async def roll_back(self, function: FunctionId, revision: int | None) -> int:
        """See api.protocol.Deployments."""
        async with self._context.changes.of(function):
            entry = self._context.fleet.entries.current(function)
            past = past_revision(entry.function, await self._context.store.revisions(function), revision)
            await self._context.images.need(past.digest)
            policy = self._context.policies.checked(past.spec, past.digest)
            self._context.images.check_bundle(past.digest, past.spec.image)
            with self._context.images.in_use(past.digest):
                async with self._context.spaces.deploying(past.spec):
                    spec = meant(past.spec, self._context.images.kind(past.digest))
                    await self._update(entry, spec, past.digest, policy, checked=policy.checked)
        self._context.images.collect_soon()
        return entry.function.revision
