"""What is deployed: each function's revisions, one change of a function at a time.

The order of an update is what keeps a broken revision from traffic, and a killed controller from half of one:
  start the new revision aside -> save it -> let it take over -> the old one finishes what it has
Until it is saved a next controller knows nothing of it, and stops what it finds of it.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace

from rescoldo.control.deploy.changes import Changes
from rescoldo.control.deploy.first_starts import FirstStarts
from rescoldo.control.deploy.images import Images
from rescoldo.control.deploy.namespaces import Namespaces
from rescoldo.control.deploy.policies import Policies
from rescoldo.control.deploy.revision_check import RevisionCheck
from rescoldo.control.deploy.revisions import past_revision
from rescoldo.control.deploy.switch import Switch
from rescoldo.control.deploy.traffic import Traffic
from rescoldo.control.fleet.entry import Entry
from rescoldo.control.fleet.fleet import Fleet
from rescoldo.kinds.deployment import meant
from rescoldo.model.errors import NotFound, RolloutFailed
from rescoldo.model.function import Function, FunctionPolicy, FunctionSpec
from rescoldo.model.names import FunctionId
from rescoldo.model.revision import Revision
from rescoldo.model.standing import PLAIN
from rescoldo.store.protocol import Store

log = logging.getLogger(__name__)


class Deployments:
    """Creates functions, and gives them revisions."""

    def __init__(
        self, store: Store, spaces: Namespaces, images: Images, policies: Policies, fleet: Fleet, check: RevisionCheck,
        trials: FirstStarts, switch: Switch, traffic: Traffic, changes: Changes, kept: int,
    ) -> None:
        """`kept` is how many past revisions a function keeps."""
        self._store = store
        self._spaces = spaces
        self._images = images
        self._policies = policies
        self._fleet = fleet
        self._rollout = check
        self._trials = trials
        self._switch = switch
        self._traffic = traffic
        self._changes = changes
        self._kept = kept

    async def load(self) -> None:
        """Read what is deployed."""
        for function in await self._store.functions():
            found, shares = await self.shares(function)
            self._fleet.entries[function.id] = Entry(found, self._policies.stored(found))
            for share in shares:
                self._traffic.add(share)
        await self._fleet.requested.load(self._fleet.entries)
        await self._fleet.standings.load(self._fleet.entries)

    async def shares(self, function: Function) -> tuple[Function, list[Function]]:
        """A function as the store has it, and its past revisions that have a share of its traffic."""
        kept = {past.number: past for past in await self._store.revisions(function.id)} if function.traffic else {}
        if missing := function.traffic.keys() - kept.keys() - {function.revision}:
            log.warning("%s: revision %d is missing; all calls go to the current revision", function.id, min(missing))
            return replace(function, traffic={}), []
        return function, [kept[number].serving(function) for number in function.traffic.keys() - {function.revision}]

    async def deploy(self, spec: FunctionSpec, *, must_exist: bool, start: bool = True, patience: float = 0.0) -> bool:
        """Create or replace. What replaces a revision that has started is returned from once it has started itself;
        what has nothing to protect is deployed at once, and started behind that. `patience` are the seconds to wait
        for the latter; without `start` nothing is started. Returns False while that goes on.

        Raises InvalidInput, UnknownImage, NotFound when `must_exist` (PUT) and it does not, or when its namespace does
        not exist, RolloutFailed when it did not start and the revision before serves on, NotStarted when it is
        deployed and does not start."""
        policy = self._policies.checked(spec)
        checked = policy.checked and start
        patience = patience if checked else 0.0
        if must_exist:
            self._check_exists(spec.id)
        digest = self._images.digest(spec.image)
        policy = self._images.check_bundle(digest, spec, policy)
        spec = meant(spec, self._images.held(digest))
        with self._images.in_use(digest):
            async with self._spaces.deploying(spec), self._changes.of(spec.id):
                if spec.id in self._fleet.entries:
                    entry = self._fleet.entries[spec.id]
                    await self._update(entry, spec, digest, policy, checked=checked)
                elif must_exist:
                    self._check_exists(spec.id)
                else:
                    entry = await self._create(spec, digest, policy, checked=checked)
                function = entry.function
        self._images.collect_soon()
        return await self._trials.outcome(entry, function, patience)

    def _check_exists(self, function: FunctionId) -> None:
        if function not in self._fleet.entries:
            raise NotFound(f"function {function} is not deployed; create it with POST")

    async def _create(self, spec: FunctionSpec, digest: str, policy: FunctionPolicy, *, checked: bool) -> Entry:
        """A first revision has nothing to protect: it is deployed at once, and tried behind that."""
        now = time.time()
        # No instance of a removed function of that name may be taken for one of this: both began with revision 1.
        function = Function(spec, digest, now, revised_at=now, generation=time.time_ns())
        standing = replace(PLAIN, untried=checked)
        await self._store.save_function(function, standing=standing)
        entry = self._fleet.entries[function.id] = Entry(function, policy, standing=standing)
        await self._fleet.routes.publish(entry)
        if checked:
            self._trials.begin(entry)
        self._fleet.wakes.keep_awake_soon(entry)
        return entry

    async def _update(
        self, entry: Entry, spec: FunctionSpec, digest: str, policy: FunctionPolicy, *, checked: bool
    ) -> None:
        """Give a function a new revision, unless it would be the same as the current one."""
        current = entry.function
        if (meant(current.spec, self._images.held(current.digest)), current.digest) == (spec, digest):
            self._again(entry, checked=checked)
            if current.traffic:
                await self._traffic.route(entry, {})
            return
        number = await self._next_revision(current)
        function = Function(spec, digest, current.created_at, number, time.time(), current.generation)
        if checked and (entry.standing.untried or entry.standing.paused):  # there is nothing to protect
            await self._switch.switch(entry, function, policy, None, untried=True)
            return
        awake = None
        if checked:
            try:
                awake = await self._rollout.check(entry, function, policy)
            except RolloutFailed as error:
                failed = replace(Revision.of(function), failure=error.message)
                await self._store.save_failed(function.id, failed, keep=self._kept)
                after = "stays, although its last start failed, too" if entry.failure is not None else "keeps serving"
                raise RolloutFailed(
                    f"revision {number} of {function.id} did not start and takes no traffic; revision "
                    f"{current.revision} {after}: {error.message}"
                ) from error
        await self._switch.switch(entry, function, policy, awake)

    def _again(self, entry: Entry, *, checked: bool) -> None:
        """What is there already was deployed again: what does not start, or was not tried, is tried."""
        due = entry.failure is not None or entry.standing.untried
        entry.failure = None
        self._fleet.standings.note(entry, failure="", untried=entry.standing.untried and checked)
        if checked and due and entry.trial is None and not entry.standing.paused:
            self._trials.begin(entry)

    async def _next_revision(self, current: Function) -> int:
        """A number that was never used, not even by a revision that failed."""
        return max(current.revision, *(past.number for past in await self._store.revisions(current.id)), 0) + 1

    def notes(self, spec: FunctionSpec) -> list[str]:
        """A sentence for each setting of a deployment that is accepted and has no effect here."""
        entry = self._fleet.entries.get(spec.id)
        return self._policies.notes(spec, entry.function.digest if entry is not None else "")

    async def roll_back(self, function: FunctionId, revision: int | None) -> int:
        """Deploy a past revision again, the last one without a number: a new revision with its deployment and its
        bundle, checked as any other. Returns the number of what is current then. Raises NotFound, InvalidInput,
        RolloutFailed."""
        async with self._changes.of(function):
            entry = self._fleet.entries.current(function)
            past = past_revision(entry.function, await self._store.revisions(function), revision)
            policy = self._policies.checked(past.spec, past.digest)
            policy = self._images.check_bundle(past.digest, past.spec, policy)
            with self._images.in_use(past.digest):
                async with self._spaces.deploying(past.spec):
                    spec = meant(past.spec, self._images.held(past.digest))
                    await self._update(entry, spec, past.digest, policy, checked=policy.checked)
        self._images.collect_soon()
        return entry.function.revision
