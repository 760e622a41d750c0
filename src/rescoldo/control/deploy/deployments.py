"""What is deployed: each function's revisions, one change of a function at a time.

The order of an update is what keeps a broken revision from traffic, and a killed controller from half of one:
  start the new revision aside -> save it -> let it take over -> the old one finishes what it has
Until it is saved a next controller knows nothing of it, and stops what it finds of it.
"""

from __future__ import annotations

import asyncio
import logging
import platform as machine
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from weakref import WeakValueDictionary

from rescoldo.control.deploy.first_starts import FirstStarts
from rescoldo.control.deploy.images import Images
from rescoldo.control.deploy.namespaces import Namespaces
from rescoldo.control.deploy.revision_check import RevisionCheck
from rescoldo.control.fleet.entry import Awake, Entry
from rescoldo.control.fleet.fleet import Fleet
from rescoldo.control.fleet.standings import kept_failure
from rescoldo.kinds.deployment import check_spec, meant, policy_of
from rescoldo.model.errors import Conflict, InvalidInput, NotFound, RolloutFailed, StartFailed, StartTimeout
from rescoldo.model.function import Function, FunctionPolicy, FunctionSpec
from rescoldo.model.names import FunctionId, revision_key
from rescoldo.model.revision import Revision, RevisionStatus, check_traffic
from rescoldo.model.settings import Settings
from rescoldo.model.standing import PLAIN
from rescoldo.policy.placement import check_constraints
from rescoldo.store.protocol import Store
from rescoldo.tasks import Tasks

log = logging.getLogger(__name__)


class Deployments:
    def __init__(
        self,
        settings: Settings,
        store: Store,
        spaces: Namespaces,
        images: Images,
        fleet: Fleet,
        tasks: Tasks,
        on_removed: Callable[[FunctionId], Awaitable[None]],
    ) -> None:
        """`on_removed` is awaited before anything can be deployed again under a removed function's name."""
        self._settings = settings
        self._store = store
        self._spaces = spaces
        self._images = images
        self._fleet = fleet
        self._tasks = tasks
        self._on_removed = on_removed
        self._rollout = RevisionCheck(settings, fleet, tasks)
        self._trials = FirstStarts(fleet, tasks)
        # Of what is deployed one change at a time, else the store could keep another one than the fleet
        self._changes: WeakValueDictionary[FunctionId, asyncio.Lock] = WeakValueDictionary()

    async def load(self) -> None:
        """Read what is deployed."""
        for function in await self._store.functions():
            kept = {past.number: past for past in await self._store.revisions(function.id)} if function.traffic else {}
            if missing := function.traffic.keys() - kept.keys() - {function.revision}:
                log.warning("%s: revision %d is gone; all calls go to the current one", function.id, min(missing))
                function = replace(function, traffic={})
            self._fleet.entries[function.id] = Entry(function, self._stored_policy(function))
            for number in function.traffic.keys() - {function.revision}:
                self._add_share(kept[number].serving(function))
        await self._fleet.asked.load(self._fleet.entries)
        await self._fleet.standings.load(self._fleet.entries)

    def go_on(self) -> None:
        """At the start: try what the controller before had not tried to the end."""
        for entry in self._fleet.functions():
            if entry.standing.untried and entry.failure is None and not entry.standing.paused:
                self._trials.begin(entry)

    def entry(self, function: FunctionId) -> Entry:
        """Its current revision. Raises NotFound."""
        entry = self._fleet.entries.get(function)
        if entry is None:
            raise NotFound(f"function {function} is not deployed here; see the names with: rescoldo list")
        return entry

    # -- deploying

    async def deploy(self, spec: FunctionSpec, *, must_exist: bool, start: bool = True, patience: float = 0.0) -> bool:
        """Create a function, or give it a new revision; see Platform.deploy."""
        policy = self._check(spec)
        checked = policy.checked and start
        patience = patience if checked else 0.0
        if must_exist:
            self._check_exists(spec.id)
        digest = self._images.digest(spec.image)
        policy = self._images.check_bundle(digest, spec, policy)
        spec = meant(spec)
        with self._images.in_use(digest):
            async with self._spaces.deploying(spec), self._changing(spec.id):
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

    def _check(self, spec: FunctionSpec) -> FunctionPolicy:
        policy = check_spec(spec, self._settings.limits, self._settings.scaling)
        check_constraints(spec.constraints, machine.machine(), machine.system())
        self._spaces.check(spec.namespace)
        return policy

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
        await self._fleet.publish(entry)
        if checked:
            self._trials.begin(entry)
        self._keep_awake(entry)
        return entry

    async def _update(
        self, entry: Entry, spec: FunctionSpec, digest: str, policy: FunctionPolicy, *, checked: bool
    ) -> None:
        """Give a function a new revision, unless it would be the same as the current one."""
        current = entry.function
        if (meant(current.spec), current.digest) == (spec, digest):
            self._again(entry, checked=checked)
            if current.traffic:
                await self._route(entry, {})
            return
        number = await self._next_revision(current)
        function = Function(spec, digest, current.created_at, number, time.time(), current.generation)
        if checked and (entry.standing.untried or entry.standing.paused):  # there is nothing to protect
            await self._switch(entry, function, policy, None, untried=True)
            return
        awake = None
        if checked:
            try:
                awake = await self._rollout.check(entry, function, policy)
            except RolloutFailed as error:
                failed = replace(Revision.of(function), failure=error.message)
                await self._store.save_failed(function.id, failed, keep=self._settings.kept_revisions)
                after = "stays, whose last start failed, too" if entry.failure is not None else "goes on serving"
                raise RolloutFailed(
                    f"revision {number} of {function.id} did not start and takes no traffic; revision "
                    f"{current.revision} {after}: {error.message}"
                ) from error
        await self._switch(entry, function, policy, awake)

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

    async def _switch(
        self, entry: Entry, function: Function, policy: FunctionPolicy, awake: Awake | None, *, untried: bool = False
    ) -> None:
        """Save what was checked and let it serve; without instances the next call starts one, or for `untried` a
        trial."""
        before, failure = entry.function, entry.failure
        saved = replace(entry.standing, untried=untried, failure="")
        try:
            if not entry.past:
                await self._store.save_function(function, keep=self._settings.kept_revisions, standing=saved)
        except BaseException:
            if awake is not None:
                self._rollout.drop(awake)
            raise
        was_untried = entry.standing.untried
        entry.function, entry.policy, entry.failure, entry.fresh = function, policy, None, True
        if not entry.past:
            entry.standing = replace(entry.standing, untried=untried, failure="")
            if entry.standing != saved:  # paused or resumed meanwhile
                self._fleet.standings.save_soon(entry)
        if awake is not None:
            await self._fleet.take_over(entry, awake)
        else:
            await self._fleet.unroute(entry, f"revision {function.revision} was deployed")
        if untried and not entry.standing.paused:
            self._trials.begin(entry)
        self._keep_awake(entry)
        await self._end_shares(function, before.traffic.keys() - function.traffic.keys())
        if was_untried and before.revision != function.revision:
            await self._never_started(before, failure.error.message if failure is not None else "")

    async def _never_started(self, before: Function, reason: str) -> None:
        """A revision that was replaced before it had ever started is none to roll back to."""
        failed = replace(Revision.of(before), failure=reason or "it was replaced before it had started")
        await self._store.save_failed(before.id, failed, keep=self._settings.kept_revisions)

    def _keep_awake(self, entry: Entry) -> None:
        if entry.kept:
            self._tasks.spawn(f"keep awake {entry.key}", self._fleet.keep_awake(entry))

    async def roll_back(self, function: FunctionId, revision: int | None) -> int:
        """Deploy a past revision again; see Platform.roll_back."""
        async with self._changing(function):
            entry = self.entry(function)
            past = _past(entry.function, await self._store.revisions(function), revision)
            policy = self._check(past.spec)
            policy = self._images.check_bundle(past.digest, past.spec, policy)
            with self._images.in_use(past.digest):
                async with self._spaces.deploying(past.spec):
                    await self._update(entry, meant(past.spec), past.digest, policy, checked=policy.checked)
        self._images.collect_soon()
        return entry.function.revision

    # -- traffic

    async def split(self, function: FunctionId, shares: Mapping[int, int]) -> None:
        """Share a function's calls out among its revisions; see Platform.split."""
        wanted = check_traffic(shares)
        async with self._changing(function):
            entry = self.entry(function)
            check_not_paused(entry, "its traffic cannot be split, as what gets a share is started")
            current = entry.function
            if wanted.keys() == {current.revision}:
                wanted = {}
            new = wanted.keys() - current.traffic.keys() - {current.revision}
            try:
                for number in sorted(new):
                    await self._start_share(current, number)
                await self._route(entry, wanted)
            except BaseException:
                if entry.function is current:  # it was not applied
                    await self._end_shares(current, new)
                raise

    async def _start_share(self, current: Function, number: int) -> None:
        """Let a past revision be there, and see it start. Raises InvalidInput, RolloutFailed, Busy."""
        past = _past(current, await self._store.revisions(current.id), number)
        policy = self._check(past.spec)
        if self._rollout.excludes(policy, self.entry(current.id).policy):
            raise InvalidInput(
                f"revisions {current.revision} and {number} of {current.id} cannot share traffic: both are programs at "
                "one TCP port, which all instances share here; use `upstream_url: inherited`, or another port in one"
            )
        self._images.check_bundle(past.digest, past.spec, policy)
        async with self._spaces.deploying(past.spec):
            entry = self._add_share(past.serving(current))
        await self._fleet.publish(entry)
        try:
            await self._fleet.wake(entry.key, f"revision {number} got a share of the traffic")
        except (StartFailed, StartTimeout) as error:
            raise RolloutFailed(
                f"revision {number} of {current.id} does not start; traffic stays as it was: {error.message}"
            ) from error

    def _add_share(self, function: Function) -> Entry:
        entry = Entry(function, self._stored_policy(function), past=True)
        self._fleet.entries[entry.key] = entry
        return entry

    async def _route(self, entry: Entry, traffic: Mapping[int, int]) -> None:
        """Save and apply a split between revisions that are there."""
        before = entry.function
        split = replace(before, traffic=traffic)
        await self._store.save_function(split, keep=self._settings.kept_revisions)
        entry.function = split
        await self._fleet.publish(entry)
        for one in self._fleet.revisions(entry.id):
            self._keep_awake(one)
        await self._end_shares(split, before.traffic.keys() - traffic.keys())

    async def _end_shares(self, function: Function, numbers: Iterable[int]) -> None:
        """Take revisions down that no split names any more; what they have is finished."""
        for number in numbers:
            entry = self._fleet.entries.pop(revision_key(function.id, number), None)
            if entry is not None:
                await self._fleet.unroute(entry, "no share of the traffic is left")
                entry.removed = True
                await self._fleet.forget(entry.key)

    async def revisions(self, function: FunctionId) -> list[RevisionStatus]:
        """See Platform.revisions."""
        current = self.entry(function).function
        kept = [self._current(current), *await self._store.revisions(function)]
        awake = {e.function.revision: e.awake for e in self._fleet.revisions(function) if e.awake is not None}
        running = {number: len(one.servers) for number, one in awake.items()}
        traffic = current.traffic or {current.revision: 100}
        return [
            RevisionStatus(one, one.number == current.revision, traffic.get(one.number, 0), running.get(one.number, 0))
            for one in sorted(kept, key=lambda one: one.number, reverse=True)
        ]

    def _current(self, function: Function) -> Revision:
        """The current revision; with the reason where it has never started."""
        return replace(Revision.of(function), failure=kept_failure(self._fleet.entries[function.id].standing))

    # -- other changes

    async def renew(self, functions: set[FunctionId], secret: str) -> None:
        """Replace the instances of functions whose `secret` has changed; what sleeps stays asleep.

        It is no revision of its own: what was deployed is the same. Raises RolloutFailed for those that do not
        start with the new value; their instances go on with the old one.
        """
        results = await asyncio.gather(*(self._renew(one, secret) for one in functions), return_exceptions=True)
        problems = [result for result in results if isinstance(result, BaseException)]
        if unexpected := [problem for problem in problems if not isinstance(problem, RolloutFailed)]:
            raise unexpected[0]
        if problems:
            raise RolloutFailed(f"secret {secret} was changed, but " + "; ".join(sorted(map(str, problems))))

    async def _renew(self, function: FunctionId, secret: str) -> None:
        async with self._changing(function):
            entry = self._fleet.entries.get(function)
            serving = self._fleet.revisions(function)
            if entry is None or not any(secret in one.function.spec.secrets for one in serving):
                return
            # a later generation, so that no next controller takes over an instance of before; it is the function's
            generation = entry.function.generation + 1
            for one in serving:
                await self._renew_revision(one, replace(one.function, generation=generation))

    async def _renew_revision(self, entry: Entry, renewed: Function) -> None:
        awake = None
        if entry.awake is not None and entry.policy.checked:
            try:
                awake = await self._rollout.check(entry, renewed, entry.policy)
            except RolloutFailed as error:
                raise RolloutFailed(
                    f"{renewed.id} does not start with it, and its instances go on with the old value until they "
                    f"end: {error.message}"
                ) from error
        untried = awake is None and entry.standing.untried
        await self._switch(entry, renewed, entry.policy, awake, untried=untried)

    # -- pausing

    async def pause(self, function: FunctionId) -> None:
        """Take no calls and have no instances until it is resumed; see Platform.pause."""
        entry = self.entry(function)
        await self._fleet.standings.change(entry, paused=True)
        await asyncio.gather(*(self._fleet.unroute(one, "paused") for one in self._fleet.revisions(function)))

    async def resume(self, function: FunctionId) -> None:
        """See Platform.resume."""
        entry = self.entry(function)
        if not entry.standing.paused:
            return
        await self._fleet.standings.change(entry, paused=False)
        await self._fleet.publish(entry)
        if entry.standing.untried:
            self._trials.begin(entry)
        for one in self._fleet.revisions(function):
            self._keep_awake(one)

    async def remove(self, function: FunctionId) -> None:
        """Forget a function; a revision that is being checked is called off. Raises NotFound."""
        self._rollout.call_off(function)
        try:
            async with self._changing(function):
                entry = self.entry(function)
                await self._store.delete_function(function)
                del self._fleet.entries[function]
                await self._fleet.unroute(entry, "removed")
                entry.removed = True
                await self._fleet.forget(function)
                await self._end_shares(entry.function, entry.function.traffic)
                self._fleet.instances.lifetimes.forget(function)
                await self._on_removed(function)
        finally:
            self._rollout.removed(function)
        self._images.collect_soon()

    # -- inside

    def _changing(self, function: FunctionId) -> asyncio.Lock:
        return self._changes.setdefault(function, asyncio.Lock())

    def _stored_policy(self, function: Function) -> FunctionPolicy:
        """What a later version refuses was allowed once: it must not keep the platform from starting."""
        try:
            held = self._images.held(function.digest)
            return policy_of(function.spec, self._settings.limits, self._settings.scaling, held=held)
        except InvalidInput as error:
            log.warning("%s runs with the defaults: %s", function.id, error.message)
            return FunctionPolicy(limits=self._settings.limits)


def check_not_paused(entry: Entry, why: str) -> None:
    """Raise Conflict where it is paused."""
    if entry.standing.paused:
        raise Conflict(f"{entry.id} is paused, and {why}; resume it first: rescoldo resume {entry.function.spec.name}")


def _past(current: Function, kept: list[Revision], number: int | None) -> Revision:
    """The past revision with that number, or the last one that served. Raises InvalidInput for one that cannot."""
    if number is None:
        if last := next((past for past in kept if not past.failure), None):
            return last
        raise InvalidInput(f"{current.id} has no revision before {current.revision} to roll back to")
    if number == current.revision:
        return Revision.of(current)
    past = next((past for past in kept if past.number == number), None)
    if past is None:
        raise InvalidInput(
            f"revision {number} of {current.id} is not kept; see those that are with: rescoldo revisions "
            f"{current.spec.name}"
        )
    if past.failure:
        raise InvalidInput(f"revision {number} of {current.id} did not start when it was deployed; deploy it anew")
    return past
