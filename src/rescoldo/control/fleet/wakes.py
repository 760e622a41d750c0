"""Wakes functions: one start serves all callers that wait, and a failed start is followed by a back-off.

The order: take slot -> start instance and add its server, side by side -> answer the held requests -> route.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable

from rescoldo.control.fleet.awake import Awake
from rescoldo.control.fleet.entries import Entries, not_deployed
from rescoldo.control.fleet.entry import Entry, Failure
from rescoldo.control.fleet.instances import Instances
from rescoldo.control.fleet.life import Life
from rescoldo.control.fleet.replicas import Replicas
from rescoldo.control.fleet.retirement import Retirement
from rescoldo.control.fleet.routes import Routes
from rescoldo.control.fleet.slots import SlotPool
from rescoldo.control.fleet.standings import Standings
from rescoldo.model.errors import Busy, Paused, RescoldoError, StartFailed, StartTimeout
from rescoldo.model.function import Function, FunctionPolicy
from rescoldo.model.names import FunctionId, RouteKey, SlotName, function_of
from rescoldo.model.standing import PLAIN
from rescoldo.policy.backoff import retry_delay
from rescoldo.policy.idle import Activity
from rescoldo.tasks import Tasks

log = logging.getLogger(__name__)

# reasons of failed wakes, as in metrics and `rescoldo describe`
_REASONS = ((StartTimeout, "timeout"), (StartFailed, "crashed"), (Busy, "busy"))


class Wakes:
    """Takes an entry from ASLEEP to AWAKE, and starts instances aside."""

    def __init__(
        self, entries: Entries, routes: Routes, instances: Instances, replicas: Replicas, retirement: Retirement,
        standings: Standings, slots: SlotPool, tasks: Tasks,
    ) -> None:
        self.succeeded = 0
        self.failed = Counter[str]()  # by reason
        # lets a function appear that the source finds by name alone; None: all functions have entries
        self.look_up: Callable[[FunctionId], Awaitable[None]] | None = None
        self._keeping: set[Entry] = set()  # being kept awake: one task each, however often that is requested
        self._entries = entries
        self._routes = routes
        self._instances = instances
        self._replicas = replicas
        self._retirement = retirement
        self._standings = standings
        self._slots = slots
        self._tasks = tasks

    async def wake(self, function: RouteKey, reason: str = "called while asleep") -> SlotName:
        """Return the slot of a function once it is awake; `reason` is for `describe --why`. Raises NotFound,
        StartFailed, StartTimeout, Busy, Paused."""
        entry = self._find(function)
        if entry is None:
            entry = await self.found(function)
        now = _now()
        if (awake := entry.awake) is not None:
            awake.note_call(now)
            if entry.life is Life.CLOSING:
                entry.reopen()
            if entry.published != entry.route:  # held although it is awake: the edge lacks its route
                self._tasks.spawn(f"route {function}", self._routes.publish(entry))
            return awake.slot
        if entry.waking is None:
            if self._entries.is_paused(entry):
                raise Paused(f"function {entry.id} is paused and takes no calls until it is resumed")
            # during the back-off, calls get the reason at once and start nothing
            if (failure := entry.failure) is not None and now < failure.retry_at:
                raise failure.error
            wake = asyncio.create_task(self._start(entry, reason), name=f"wake {function}")
            wake.add_done_callback(_retrieve)
            entry.begin_wake(wake)
            return await asyncio.shield(wake)  # a caller that leaves must not cancel the start for the others
        return await asyncio.shield(entry.waking)

    async def found(self, function: RouteKey) -> Entry:
        """The entry of a function, which the source may find by name alone. Raises NotFound, and the source's
        errors."""
        entry = self._find(function)
        if entry is None and self.look_up is not None:
            await self.look_up(function_of(function))
            entry = self._find(function)
        if entry is None:
            raise not_deployed(function)
        return entry

    def _find(self, function: RouteKey) -> Entry | None:
        """The entry that serves a call: a revision's share may end while its call is on the way, and then the current
        revision serves it."""
        return self._entries.get(function) or self._entries.get(function_of(function))

    def keep_awake_soon(self, entry: Entry) -> None:
        """In the background, wake a function that keeps instances without a call."""
        if entry.kept:
            self._tasks.spawn(f"keep awake {entry.key}", self.keep_awake(entry))

    async def keep_awake(self, entry: Entry) -> None:
        """Wake a function that keeps instances without a call; retry until it is awake, or keeps none any more. Does
        nothing if somebody does so already."""
        if entry in self._keeping:
            return
        self._keeping.add(entry)
        try:
            await self._keep_awake(entry)
        finally:
            self._keeping.discard(entry)

    async def _keep_awake(self, entry: Entry) -> None:
        while self._entries.get(entry.key) is entry and entry.kept and entry.awake is None:
            try:
                await self.wake(entry.key, "its minimum keeps it awake")
            except RescoldoError:
                await asyncio.sleep(retry_delay(entry.failure.count if entry.failure else 1))

    async def _start(self, entry: Entry, reason: str) -> SlotName:
        try:
            awake = await self.start_aside(entry.function, entry.policy, entry.wake_number)
        except RescoldoError as error:
            self._count_failure(entry, error)
            if entry.waking is asyncio.current_task():  # else the entry has dropped this start
                entry.give_up()
                self._note_failure(entry, error)
            raise
        self.succeeded += 1
        if entry.waking is not asyncio.current_task():  # deployed again, paused, removed or scaled to zero meanwhile
            self._retirement.retire_soon(awake)
            return await self.wake(entry.key, reason)
        self._let_serve(entry, awake)
        entry.note(_now(), 0, awake.wanted, reason)
        self._tasks.spawn(f"route {entry.id}", self._routes.publish_soon(entry))
        if awake.wanted > 1:
            self._replicas.resize(entry)
        return awake.slot

    def _let_serve(self, entry: Entry, awake: Awake) -> Awake | None:
        """Let `awake` serve the revision's requests from now on; return the previous awake period."""
        before = entry.serve(awake)
        entry.failure, entry.fresh = None, False
        if entry.standing is not PLAIN:
            self._standings.note(entry, untried=False, failure="")
        awake.note_call(_now())
        self._entries.woken.set()
        return before

    def _count_failure(self, entry: Entry, error: RescoldoError) -> None:
        reason = next((reason for kind, reason in _REASONS if isinstance(error, kind)), "other")
        self.failed[reason] += 1
        if entry.failed_wakes is None:
            entry.failed_wakes = Counter()
        entry.failed_wakes[reason] += 1

    def _note_failure(self, entry: Entry, error: RescoldoError) -> None:
        if isinstance(error, Busy):
            return  # the platform's lack of room says nothing about the function
        count = entry.failure.count + 1 if entry.failure is not None else 1
        entry.failure = Failure(error, count, _now() + retry_delay(count))
        self._standings.note(entry, failure=error.message)
        log.warning("%s did not start: %s", entry.id, error.message.partition("\n")[0])

    # -- instances started aside

    async def start_aside(self, function: Function, policy: FunctionPolicy, number: int) -> Awake:
        """Start the first of `number` instances in a slot that has no route yet. Raises StartFailed, StartTimeout,
        Busy."""
        slot = self._slots.take(at_port=policy.at_port)
        awake = Awake(slot, function, policy, number, Activity(_now(), self._slots.begun(slot)), _now())
        try:
            awake.took = await self._instances.launch(awake, first=True)
        except BaseException:
            self._retirement.abandon(awake)
            raise
        awake.woken_at = time.monotonic()
        return awake

    async def take_over(self, entry: Entry, awake: Awake) -> None:
        """Let an awake period that was started aside serve from now on; the previous one finishes its requests."""
        self.drop_lost(awake)
        reason = f"revision {awake.function.revision} was deployed"
        if not awake.servers or self._entries.is_paused(entry):  # the next call wakes it
            self._retirement.retire_soon(awake)
            await self._retirement.unroute(entry, reason)
            return
        before = self._let_serve(entry, awake)
        entry.note(_now(), before.wanted if before is not None else 0, awake.wanted, reason)
        await self._routes.publish(entry)
        if before is not None:
            self._retirement.retire_soon(before)
        self._replicas.resize(entry)

    def drop_lost(self, awake: Awake) -> None:
        """Forget instances that have ended since they were started aside: no loss was handled for them."""
        for instance in awake.servers.keys() - self._instances.live.keys():
            del awake.servers[instance]


def _now() -> float:
    return asyncio.get_running_loop().time()


def _retrieve(task: asyncio.Task[SlotName]) -> None:
    """Retrieve the exception, which asyncio would report if every caller had left: the log has the failure already."""
    if not task.cancelled():
        task.exception()
