"""Takes down an awake period: unroute the slot, let its requests end, stop its instances, give the slot back."""

from __future__ import annotations

import asyncio

from rescoldo.control.fleet.awake import Awake
from rescoldo.control.fleet.entry import Entry
from rescoldo.control.fleet.instances import Instances
from rescoldo.control.fleet.life import Life, Stage
from rescoldo.control.fleet.outages import RETRY_SECONDS
from rescoldo.control.fleet.requested import RequestedReplicas
from rescoldo.control.fleet.routes import Routes
from rescoldo.control.fleet.slots import SlotPool
from rescoldo.model.names import SlotName
from rescoldo.policy.idle import Activity
from rescoldo.tasks import Tasks

QUIET_SECONDS = 0.05  # between the two readings that must agree that a slot is quiet
SETTLE_SECONDS = 0.25  # from the answer to a hold until its request must have reached the slot


class Retirement:
    """Takes an entry from AWAKE to ASLEEP, and an awake period from SERVING to its end."""

    def __init__(
        self, routes: Routes, instances: Instances, requested: RequestedReplicas, slots: SlotPool, tasks: Tasks
    ) -> None:
        self._routes = routes
        self._instances = instances
        self._requested = requested
        self._slots = slots
        self._tasks = tasks

    async def close(self, entry: Entry, reason: str = "") -> None:
        """Put an idle function to sleep; give up as soon as a request arrives. `reason` is for `describe --why`."""
        if entry.life is not Life.AWAKE:
            return
        awake = entry.close()
        await self._routes.publish(entry)
        quiet = await self._is_quiet(awake)
        if entry.awake is not awake:
            return
        if awake.stage is not Stage.CLOSING or not quiet:  # reopened, or a request came before the edge had the route
            if awake.stage is Stage.CLOSING:
                entry.reopen()
            awake.activity = Activity(_now(), awake.activity.total)
            await self._routes.publish(entry)
            return
        entry.fall_asleep()
        self._requested.end(entry)
        entry.note(_now(), awake.wanted, 0, reason or f"idle for {entry.policy.idle_window:g} s")
        self._tasks.spawn(f"retire {entry.id}", self._stop(awake))

    async def unroute(self, entry: Entry, reason: str) -> None:
        """Let go of an awake period: new requests wake the function again, and its present requests finish. `reason` is
        for `describe --why`."""
        awake = entry.let_go()
        await self._routes.publish(entry)
        if awake is not None:
            entry.note(_now(), awake.wanted, 0, reason)
            self.retire_soon(awake)

    def retire_soon(self, awake: Awake) -> None:
        """Retire it in the background."""
        self._tasks.spawn(f"retire {awake.function.id}", self.retire(awake))

    async def retire(self, awake: Awake) -> None:
        """Let an unrouted slot finish its requests, for at most a call's timeout and the grace, then stop its
        instances and give the slot back."""
        awake.drain()
        deadline = _now() + awake.policy.limits.exec_timeout + awake.policy.grace
        while _now() < deadline and not await self._is_quiet(awake):
            pass
        awake.enter(Stage.ENDING)
        await self._stop(awake)

    def abandon(self, awake: Awake) -> None:
        """Give up a slot in which no instance has started."""
        awake.enter(Stage.ENDING)
        self._tasks.spawn(f"release {awake.slot}", self._release(awake.slot))

    async def _stop(self, awake: Awake) -> None:
        """Stop the instances of a quiet slot, and give the slot back."""
        grace = awake.policy.grace
        await asyncio.gather(*(self._instances.remove(awake.slot, one, grace) for one in list(awake.servers)))
        await self._release(awake.slot)

    async def _is_quiet(self, awake: Awake) -> bool:
        """Read the slot's counters twice; takes QUIET_SECONDS."""
        before = await self._instances.load(awake.slot)
        await asyncio.sleep(QUIET_SECONDS)
        after = await self._instances.load(awake.slot)
        # the totals show a call that began and ended between the two readings
        settled = _now() - awake.answered_at >= SETTLE_SECONDS
        return settled and not before.busy and not after.busy and before.total == after.total

    async def _release(self, slot: SlotName) -> None:
        """Give a slot back once it is quiet and has no server left."""
        live = self._instances.live
        while (load := await self._instances.load(slot)).busy or any(one.slot == slot for one in live.values()):
            await asyncio.sleep(RETRY_SECONDS)
        self._slots.give_back(slot, load.total)


def _now() -> float:
    return asyncio.get_running_loop().time()
