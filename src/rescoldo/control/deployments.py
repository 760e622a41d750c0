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

from rescoldo.control.entry import Awake, Entry
from rescoldo.control.fleet import Fleet
from rescoldo.control.images import Images
from rescoldo.control.namespaces import Namespaces
from rescoldo.control.rollout import Rollout
from rescoldo.control.tasks import Tasks
from rescoldo.model.errors import InvalidInput, NotFound, RolloutFailed, StartFailed, StartTimeout
from rescoldo.model.function import Function, FunctionPolicy, FunctionSpec, check_spec, policy_of
from rescoldo.model.names import FunctionId, revision_key
from rescoldo.model.revision import Revision, RevisionStatus, check_traffic
from rescoldo.model.settings import Settings
from rescoldo.policy.placement import check_constraints
from rescoldo.store.protocol import Store

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
        self._rollout = Rollout(settings, fleet, tasks)
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

    def entry(self, function: FunctionId) -> Entry:
        """Its current revision. Raises NotFound."""
        entry = self._fleet.entries.get(function)
        if entry is None:
            raise NotFound(f"function {function} is not deployed here; see the names with: rescoldo list")
        return entry

    # -- deploying

    async def deploy(self, spec: FunctionSpec, *, must_exist: bool) -> None:
        """Create a function, or give it a new revision; see Platform.deploy."""
        policy = self._check(spec)
        if must_exist:
            self._check_exists(spec.id)
        digest = self._images.digest(spec.image)
        self._images.check_bundle(digest, spec.image, policy)
        with self._images.in_use(digest):
            async with self._spaces.deploying(spec), self._changing(spec.id):
                if spec.id in self._fleet.entries:
                    await self._update(self._fleet.entries[spec.id], spec, digest, policy)
                elif must_exist:
                    self._check_exists(spec.id)
                else:
                    await self._create(spec, digest, policy)
        self._images.collect_soon()

    def _check(self, spec: FunctionSpec) -> FunctionPolicy:
        policy = check_spec(spec, self._settings.limits, self._settings.scaling)
        check_constraints(spec.constraints, machine.machine(), machine.system())
        self._spaces.check(spec.namespace)
        return policy

    def _check_exists(self, function: FunctionId) -> None:
        if function not in self._fleet.entries:
            raise NotFound(f"function {function} is not deployed; create it with POST")

    async def _create(self, spec: FunctionSpec, digest: str, policy: FunctionPolicy) -> None:
        """A first revision has nothing to protect: it sleeps, and its first call shows whether it starts."""
        now = time.time()
        # No instance of a removed function of that name may be taken for one of this: both began with revision 1.
        function = Function(spec, digest, now, revised_at=now, generation=time.time_ns())
        await self._store.save_function(function)
        entry = self._fleet.entries[function.id] = Entry(function, policy)
        await self._fleet.publish(entry)
        self._keep_awake(entry)

    async def _update(self, entry: Entry, spec: FunctionSpec, digest: str, policy: FunctionPolicy) -> None:
        """Give a function a new revision, unless it would be the same as the current one."""
        current = entry.function
        if (current.spec, current.digest) == (spec, digest):
            entry.failure = None  # whoever deploys again wants it tried again
            if current.traffic:
                await self._route(entry, {})
            return
        number = await self._next_revision(current)
        function = Function(spec, digest, current.created_at, number, time.time(), current.generation)
        awake = None
        if policy.checked:
            try:
                awake = await self._rollout.check(entry, function, policy)
            except RolloutFailed as error:
                failed = replace(Revision.of(function), failure=error.message)
                await self._store.save_failed(function.id, failed, keep=self._settings.kept_revisions)
                raise RolloutFailed(
                    f"revision {number} of {function.id} did not start and takes no traffic; revision "
                    f"{current.revision} goes on serving: {error.message}"
                ) from error
        await self._switch(entry, function, policy, awake)

    async def _next_revision(self, current: Function) -> int:
        """A number that was never used, not even by a revision that failed."""
        return max(current.revision, *(past.number for past in await self._store.revisions(current.id)), 0) + 1

    async def _switch(self, entry: Entry, function: Function, policy: FunctionPolicy, awake: Awake | None) -> None:
        """Save what was checked and let it serve; without instances the next call starts one."""
        try:
            if not entry.past:
                await self._store.save_function(function, keep=self._settings.kept_revisions)
        except BaseException:
            if awake is not None:
                self._rollout.drop(awake)
            raise
        before = entry.function
        entry.function, entry.policy, entry.failure, entry.fresh = function, policy, None, True
        if awake is not None:
            await self._fleet.take_over(entry, awake)
        else:
            await self._fleet.unroute(entry)
        self._keep_awake(entry)
        await self._end_shares(function, before.traffic.keys() - function.traffic.keys())

    def _keep_awake(self, entry: Entry) -> None:
        if entry.kept:
            self._tasks.spawn(f"keep awake {entry.key}", self._fleet.keep_awake(entry))

    async def roll_back(self, function: FunctionId, revision: int | None) -> int:
        """Deploy a past revision again; see Platform.roll_back."""
        async with self._changing(function):
            entry = self.entry(function)
            past = _past(entry.function, await self._store.revisions(function), revision)
            policy = self._check(past.spec)
            self._images.check_bundle(past.digest, past.spec.image, policy)
            with self._images.in_use(past.digest):
                async with self._spaces.deploying(past.spec):
                    await self._update(entry, past.spec, past.digest, policy)
        self._images.collect_soon()
        return entry.function.revision

    # -- traffic

    async def split(self, function: FunctionId, shares: Mapping[int, int]) -> None:
        """Share a function's calls out among its revisions; see Platform.split."""
        wanted = check_traffic(shares)
        async with self._changing(function):
            entry = self.entry(function)
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
        self._images.check_bundle(past.digest, past.spec.image, policy)
        async with self._spaces.deploying(past.spec):
            entry = self._add_share(past.serving(current))
        await self._fleet.publish(entry)
        try:
            await self._fleet.wake(entry.key)
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
                await self._fleet.unroute(entry)
                entry.removed = True
                await self._fleet.forget(entry.key)

    async def revisions(self, function: FunctionId) -> list[RevisionStatus]:
        """See Platform.revisions."""
        current = self.entry(function).function
        kept = [Revision.of(current), *await self._store.revisions(function)]
        awake = {e.function.revision: e.awake for e in self._fleet.revisions(function) if e.awake is not None}
        running = {number: len(one.servers) for number, one in awake.items()}
        traffic = current.traffic or {current.revision: 100}
        return [
            RevisionStatus(one, one.number == current.revision, traffic.get(one.number, 0), running.get(one.number, 0))
            for one in sorted(kept, key=lambda one: one.number, reverse=True)
        ]

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
        await self._switch(entry, renewed, entry.policy, awake)

    async def remove(self, function: FunctionId) -> None:
        """Forget a function; a revision that is being checked is called off. Raises NotFound."""
        self._rollout.call_off(function)
        try:
            async with self._changing(function):
                entry = self.entry(function)
                await self._store.delete_function(function)
                del self._fleet.entries[function]
                await self._fleet.unroute(entry)
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
            return policy_of(function.spec, self._settings.limits, self._settings.scaling)
        except InvalidInput as error:
            log.warning("%s runs with the defaults: %s", function.id, error.message)
            return FunctionPolicy(limits=self._settings.limits)


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
