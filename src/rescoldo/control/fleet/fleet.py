"""Wakes functions, keeps as many instances as wanted, and takes slots down again.

The order of things is what keeps requests from failing:
  wake:   take slot -> start instance and add its server, side by side -> answer those who wait -> route
  retire: unroute -> wait until the slot is quiet -> remove servers -> stop instances -> give slot back
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator

from rescoldo.control.fleet.entry import Awake, Entry, Failure
from rescoldo.control.fleet.instances import Instances
from rescoldo.control.fleet.outages import RETRY_SECONDS
from rescoldo.control.fleet.replicas import Replicas
from rescoldo.control.fleet.requested import RequestedReplicas
from rescoldo.control.fleet.slots import SlotPool
from rescoldo.control.fleet.standings import Standings
from rescoldo.edge.protocol import Edge, EdgeState
from rescoldo.model.errors import Busy, EdgeUnavailable, NotFound, Paused, RescoldoError, StartFailed, StartTimeout
from rescoldo.model.function import Function, FunctionPolicy
from rescoldo.model.names import FunctionId, RouteKey, SlotName, function_of, revision_key
from rescoldo.model.standing import PLAIN
from rescoldo.node.protocol import Exit, Node
from rescoldo.policy.backoff import retry_delay
from rescoldo.policy.idle import Activity
from rescoldo.policy.respawn import SHORTEST_LIFE, early_deaths, respawn_pause
from rescoldo.store.protocol import Store
from rescoldo.tasks import Tasks

log = logging.getLogger(__name__)

QUIET_SECONDS = 0.05  # two looks at a slot this far apart must agree that nothing happens in it
SETTLE_SECONDS = 0.25  # from an answered hold to the moment its request must have reached the slot
PUBLISH_PAUSE = 0.002  # seconds from the answer of a wake to its route; a call between asks, and is answered at once

# why a wake failed, as metrics and `rescoldo describe` say it
_REASONS = ((StartTimeout, "timeout"), (StartFailed, "crashed"), (Busy, "busy"))


class Fleet:
    def __init__(
        self, node: Node, edge: Edge, store: Store, slots: SlotPool, tasks: Tasks, gid_of: Callable[[str], int]
    ) -> None:
        self.entries: dict[RouteKey, Entry] = {}
        self.wakes = 0  # that succeeded
        self.failed_wakes = Counter[str]()  # by reason
        self.woken = asyncio.Event()  # set when something is awake: the sleeper has work
        self.instances = Instances(node, edge, tasks, gid_of)
        self.replicas = Replicas(self.instances, edge, tasks)
        self.asked = RequestedReplicas(store, tasks)
        self.standings = Standings(store, tasks)
        self._edge = edge
        self._slots = slots
        self._tasks = tasks

    def functions(self) -> Iterator[Entry]:
        """The current revision of each function."""
        return (entry for entry in self.entries.values() if not entry.past)

    def revisions(self, function: FunctionId) -> list[Entry]:
        """The revisions of a function that take traffic, the current one first; none of one that is not deployed."""
        current = self.entries.get(function)
        if current is None:
            return []
        others = (self.entries.get(revision_key(function, number)) for number in current.function.traffic)
        return [current, *(entry for entry in others if entry is not None)]

    # -- waking

    async def wake(self, function: RouteKey, reason: str = "called while it slept") -> SlotName:
        """Return the slot of a function, awake by now; `reason` is why, for `describe --why`. Raises NotFound,
        StartFailed, StartTimeout, Busy, Paused."""
        # a revision whose share ended while a call of it was on its way: the current one serves it
        entry = self.entries.get(function) or self.entries.get(function_of(function))
        if entry is None:
            raise NotFound(f"function {function} is not deployed here; see the names with: rescoldo list")
        now = _now()
        awake = entry.awake
        if awake is not None:
            awake.answered_at = now
            awake.activity = Activity(now, awake.activity.total)
            awake.closing = False
            if entry.published != entry.route:
                self._tasks.spawn(f"route {function}", self.publish(entry))
            return awake.slot
        if entry.waking is None:
            if self._is_paused(entry):
                raise Paused(f"function {entry.id} is paused and takes no calls until somebody resumes it")
            if (failure := entry.failure) is not None and now < failure.retry_at:
                raise failure.error
            entry.waking = asyncio.create_task(self._start(entry, reason), name=f"wake {function}")
            entry.waking.add_done_callback(_retrieve)
        return await asyncio.shield(entry.waking)

    def _is_paused(self, entry: Entry) -> bool:
        current = self.entries.get(entry.id) if entry.past else entry
        return current is not None and current.standing.paused

    async def _start(self, entry: Entry, reason: str) -> SlotName:
        try:
            awake = await self.start_aside(entry.function, entry.policy, entry.wake_number)
        except RescoldoError as error:
            self._count_failure(entry, error)
            if entry.waking is asyncio.current_task():
                entry.waking = None
                self._note_failure(entry, error)
            raise
        self.wakes += 1
        if entry.waking is not asyncio.current_task():  # deployed anew, removed or scaled to zero meanwhile
            self._tasks.spawn(f"retire {entry.id}", self.retire(awake))
            return await self.wake(entry.key, reason)
        self._let_serve(entry, awake)
        entry.note(_now(), 0, awake.wanted, reason)
        self._tasks.spawn(f"route {entry.id}", self._publish_soon(entry))
        if awake.wanted > 1:
            self.replicas.resize(entry)
        return awake.slot

    def _let_serve(self, entry: Entry, awake: Awake) -> None:
        """What was started is from now on what the function is awake with."""
        entry.awake, entry.waking, entry.failure, entry.fresh = awake, None, None, False
        if entry.standing is not PLAIN:
            self.standings.note(entry, untried=False, failure="")
        awake.answered_at = _now()
        awake.activity = Activity(_now(), awake.activity.total)
        self.woken.set()

    async def start_aside(self, function: Function, policy: FunctionPolicy, number: int) -> Awake:
        """Start the first of `number` instances in a slot that nothing is routed to yet. Raises StartFailed,
        StartTimeout, Busy."""
        slot = self._slots.take(at_port=policy.at_port)
        awake = Awake(slot, function, policy, number, Activity(_now(), self._slots.begun(slot)), _now())
        try:
            awake.took = await self.instances.launch(awake, first=True)
        except BaseException:
            self._tasks.spawn(f"release {slot}", self._release(slot))
            raise
        awake.woken_at = time.monotonic()
        return awake

    def _count_failure(self, entry: Entry, error: RescoldoError) -> None:
        reason = next((reason for kind, reason in _REASONS if isinstance(error, kind)), "other")
        self.failed_wakes[reason] += 1
        if entry.failed_wakes is None:
            entry.failed_wakes = Counter()
        entry.failed_wakes[reason] += 1

    def _note_failure(self, entry: Entry, error: RescoldoError) -> None:
        if isinstance(error, Busy):
            return  # our own lack of room says nothing about the function
        count = entry.failure.count + 1 if entry.failure is not None else 1
        entry.failure = Failure(error, count, _now() + retry_delay(count))
        self.standings.note(entry, failure=error.message)
        log.warning("%s did not start: %s", entry.id, error.message.partition("\n")[0])

    # -- the edge

    async def _publish_soon(self, entry: Entry) -> None:
        """Let those who wait for the wake go first: the edge has one thread for both."""
        await asyncio.sleep(PUBLISH_PAUSE)
        await self.publish(entry)

    async def publish(self, entry: Entry) -> None:
        """Tell the edge the function's current route; return when the edge knows it.

        A stale route could point at a slot that was since lent to another function, so this retries until the edge
        confirms, and what takes a slot down waits for that.
        """
        async with entry.publishing:
            while not entry.removed and (route := entry.route) != entry.published:
                try:
                    await self._edge.set_route(route)
                except EdgeUnavailable:
                    entry.published = None
                    await asyncio.sleep(RETRY_SECONDS)
                else:
                    entry.published = route

    async def forget(self, key: RouteKey) -> None:
        """Let the edge forget a route that is in `entries` no more."""
        with contextlib.suppress(EdgeUnavailable):  # a restarted edge gets those that are left
            await self._edge.drop_route(key)

    def edge_state(self) -> EdgeState:
        """All that the edge should know now; called when it is about to be applied."""
        for entry in self.entries.values():
            entry.published = entry.route
        return EdgeState(tuple(e.route for e in self.entries.values()), tuple(self.instances.live.values()))

    async def take_over(self, entry: Entry, awake: Awake) -> None:
        """Let what was started aside serve from now on; what served before finishes what it has."""
        self.drop_lost(awake)
        reason = f"revision {awake.function.revision} was deployed"
        if not awake.servers or self._is_paused(entry):  # the next call wakes it
            self._tasks.spawn(f"retire {entry.key}", self.retire(awake))
            await self.unroute(entry, reason)
            return
        before = entry.awake
        self._let_serve(entry, awake)
        entry.note(_now(), before.wanted if before is not None else 0, awake.wanted, reason)
        await self.publish(entry)
        if before is not None:
            self._tasks.spawn(f"retire {entry.key}", self.retire(before))
        self.replicas.resize(entry)

    def drop_lost(self, awake: Awake) -> None:
        """Forget the instances of what was started aside that have ended since: nobody waited for them."""
        for instance in awake.servers.keys() - self.instances.live.keys():
            del awake.servers[instance]

    # -- taking down

    async def unroute(self, entry: Entry, reason: str) -> None:
        """Let go of what is awake: new requests wake the function anew, those it has are finished. `reason` is for
        `describe --why`."""
        awake, entry.awake, entry.waking = entry.awake, None, None
        await self.publish(entry)
        if awake is not None:
            entry.note(_now(), awake.wanted, 0, reason)
            self._tasks.spawn(f"retire {entry.id}", self.retire(awake))

    async def retire(self, awake: Awake) -> None:
        """Finish what an unrouted slot still has, then stop its instances and give the slot back."""
        deadline = _now() + awake.policy.limits.exec_timeout + awake.policy.grace
        while _now() < deadline and not await self._is_quiet(awake):
            pass
        await self._end(awake)

    async def _end(self, awake: Awake) -> None:
        """Stop the instances of a slot that is quiet, and give it back."""
        awake.retired = True
        grace = awake.policy.grace
        await asyncio.gather(*(self.instances.remove(awake.slot, one, grace) for one in list(awake.servers)))
        await self._release(awake.slot)

    async def _is_quiet(self, awake: Awake) -> bool:
        """Look at the slot twice; takes QUIET_SECONDS."""
        before = await self.instances.load(awake.slot)
        await asyncio.sleep(QUIET_SECONDS)
        after = await self.instances.load(awake.slot)
        settled = _now() - awake.answered_at >= SETTLE_SECONDS
        return settled and not before.busy and not after.busy and before.total == after.total

    async def close(self, entry: Entry, reason: str = "") -> None:
        """Put an idle function to sleep; gives up as soon as a request shows up. `reason` is for `describe --why`."""
        awake = entry.awake
        if awake is None or awake.closing:
            return
        awake.closing = True
        await self.publish(entry)
        quiet = await self._is_quiet(awake)
        if entry.awake is not awake:
            return
        if not awake.closing or not quiet:  # woken again, or a request came in before the edge knew
            awake.closing = False
            awake.activity = Activity(_now(), awake.activity.total)
            await self.publish(entry)
            return
        entry.awake = None
        self.asked.end(entry)
        entry.note(_now(), awake.wanted, 0, reason or f"idle for {entry.policy.idle_window:g} s")
        self._tasks.spawn(f"retire {entry.id}", self._end(awake))

    async def _release(self, slot: SlotName) -> None:
        """Give a slot back when it is quiet and has no server left."""
        live = self.instances.live
        while (load := await self.instances.load(slot)).busy or any(one.slot == slot for one in live.values()):
            await asyncio.sleep(RETRY_SECONDS)
        self._slots.give_back(slot, load.total)

    # -- what is lost, and what must not sleep

    async def lost(self, exit: Exit) -> None:
        """An instance crashed for good. Its dead server stays until a replacement has taken the queue."""
        if self.instances.note_end(exit):
            return
        server = self.instances.live.get(exit.instance)
        entry = next((e for e in self.revisions(exit.function) if e.awake and exit.instance in e.awake.servers), None)
        if server is None:
            return
        log.warning("%s lost instance %s: %s", exit.function, exit.instance, exit.reason)
        awake = entry.awake if entry is not None else None
        if entry is None or awake is None:
            await self.instances.bury(server)
            return
        del awake.servers[exit.instance]
        if not awake.servers:
            entry.awake = None
            entry.note(_now(), awake.wanted, 0, f"the last instance was lost: {exit.reason}")
            await self.publish(entry)  # new requests are held and wake another
            await self._serve_queue(awake)
            self._tasks.spawn(f"retire {entry.id}", self.retire(awake))
        patience = awake.policy.limits.exec_timeout
        self._tasks.spawn(f"bury {exit.instance}", self.instances.bury(server, patience))
        await self._pause(entry, exit)
        if entry.awake is awake:
            self.replicas.resize(entry)
        elif entry.kept:
            await self.keep_awake(entry)

    async def _pause(self, entry: Entry, exit: Exit) -> None:
        """Let one that ends again and again as soon as it is ready not be started without end."""
        lived = SHORTEST_LIFE if exit.lived is None else exit.lived
        entry.early_deaths = early_deaths(entry.early_deaths, ready_at=0.0, ended_at=lived)
        await asyncio.sleep(respawn_pause(entry.early_deaths))

    async def _serve_queue(self, awake: Awake) -> None:
        """Requests that wait in the slot of a dead instance get one of their own."""
        if (await self.instances.load(awake.slot)).busy:
            try:
                await self.instances.launch(awake, first=True)
            except RescoldoError as error:
                log.warning("%s: queued requests get no instance: %s", awake.function.id, error.message)

    async def keep_awake(self, entry: Entry) -> None:
        """Wake a function that is to have instances without a call; tries again until it has."""
        while self.entries.get(entry.key) is entry and entry.kept and entry.awake is None:
            try:
                await self.wake(entry.key, "it is to have instances without a call")
            except RescoldoError:
                await asyncio.sleep(retry_delay(entry.failure.count if entry.failure else 1))


def _now() -> float:
    return asyncio.get_running_loop().time()


def _retrieve(task: asyncio.Task[SlotName]) -> None:
    """Those who waited may all have left: a failure is in the log already."""
    if not task.cancelled():
        task.exception()
