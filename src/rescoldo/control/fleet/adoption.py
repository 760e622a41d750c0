"""Brings controller, node and edge back into agreement after one of them restarted."""

from __future__ import annotations

import asyncio
import logging

from rescoldo.control.fleet.awake import Awake
from rescoldo.control.fleet.entry import Entry
from rescoldo.control.fleet.fleet import Fleet
from rescoldo.control.fleet.outages import outlast
from rescoldo.control.fleet.slots import SlotPool
from rescoldo.edge.protocol import Edge, LiveServer
from rescoldo.model.function import Function, FunctionPolicy, FunctionSpec
from rescoldo.model.instance import Launch, RunningInstance
from rescoldo.model.limits import Limits
from rescoldo.model.names import InstanceId, SlotName, split_id
from rescoldo.node.protocol import Exit, Node
from rescoldo.policy.idle import Activity
from rescoldo.tasks import Tasks

log = logging.getLogger(__name__)


class Adoption:
    """Takes over the instances that run, and gives a new edge its state."""

    def __init__(self, fleet: Fleet, node: Node, edge: Edge, slots: SlotPool, tasks: Tasks) -> None:
        self._fleet = fleet
        self._node = node
        self._edge = edge
        self._slots = slots
        self._tasks = tasks
        self._synchronising = asyncio.Lock()

    async def adopt(self) -> None:
        """At the controller's start, take over the running instances, in the slots where the edge has them."""
        running = await outlast(self._node.instances)
        slot_of = {instance: slot for slot, instance in await outlast(self._edge.servers)}
        # those in slots first: an instance without a slot then joins its revision's, or gets a slot that is free
        placed = [one for one in running if one.launch.instance in slot_of]
        strays = [one for one in placed if not self._take_over(one, slot_of)]
        leaving = self._leaving(strays, slot_of)
        strays += [one for one in running if one not in placed and not self._take_over(one, slot_of)]
        for entry in self._fleet.entries.values():
            if entry.awake is not None:
                now = asyncio.get_running_loop().time()
                entry.note(now, 0, len(entry.awake.servers), "taken over from the previous controller")
        await self.synchronise()
        for awake in leaving:
            self._tasks.spawn(f"retire {awake.slot}", self._fleet.retirement.retire(awake))
        for stray in strays:
            if stray.launch.instance not in self._fleet.instances.live:
                self._fleet.instances.note(stray.launch)  # until it has ended, it counts for max-strict
                self._tasks.spawn(f"stop {stray.launch.instance}", self._fleet.instances.stop(stray.launch.instance))
        if running:
            log.info("adopted %d instances, stopped %d", len(running) - len(strays), len(strays))

    def _leaving(self, strays: list[RunningInstance], slot_of: dict[InstanceId, SlotName]) -> list[Awake]:
        """Instances that the previous controller was taking down: each finishes its requests in the slot that it is
        in."""
        leaving: dict[SlotName, Awake] = {}
        lent = {entry.awake.slot for entry in self._fleet.entries.values() if entry.awake is not None}
        for stray in strays:
            slot = slot_of[stray.launch.instance]
            if slot in lent:
                continue
            if slot not in leaving:
                self._slots.claim(slot)
                leaving[slot] = _forgotten(slot, stray.launch)
            self._join(leaving[slot], stray)
        return list(leaving.values())

    def _take_over(self, running: RunningInstance, slot_of: dict[InstanceId, SlotName]) -> bool:
        """Add an instance to the revision that it was started from. Return False for a stray: no revision that takes
        traffic matches it, its function is paused, or its revision is awake in another slot."""
        launch = running.launch
        started = (launch.digest, launch.revision, launch.generation)
        revisions = self._fleet.entries.revisions(launch.function)
        entry = next((e for e in revisions if _version(e.function) == started), None)
        if entry is None or revisions[0].standing.paused:
            return False
        slot = slot_of.get(launch.instance)
        awake = entry.awake
        if awake is None:
            awake = self._new_awake(entry, slot)
            entry.serve(awake)
        elif slot not in (None, awake.slot):
            return False
        self._join(awake, running)
        awake.wanted = max(awake.wanted, len(awake.servers))
        self._fleet.entries.woken.set()
        return True

    def _join(self, awake: Awake, running: RunningInstance) -> None:
        launch = running.launch
        server = LiveServer(awake.slot, launch.instance, running.address, launch.concurrency)
        awake.servers[launch.instance] = self._fleet.instances.live[launch.instance] = server
        self._fleet.instances.note(launch)

    def _new_awake(self, entry: Entry, slot: SlotName | None) -> Awake:
        if slot is None:
            slot = self._slots.take(at_port=entry.policy.at_port)
        else:
            self._slots.claim(slot)
        now = asyncio.get_running_loop().time()
        number = max(entry.policy.woken, entry.requested)
        return Awake(slot, entry.function, entry.policy, number, Activity(now, 0), now)

    async def synchronise(self) -> None:
        """Send a new edge the whole state; retry until it has it."""
        async with self._synchronising:
            await outlast(self._fleet.routes.synchronise)

    async def check_instances(self) -> None:
        """After the node's restart, report instances that it no longer knows as lost, and stop those that we do not
        know."""
        instances = self._fleet.instances
        # taken before the question, so that an instance that becomes ready during it does not count as lost
        before = instances.live.keys() - instances.starting
        running = {running.launch.instance for running in await outlast(self._node.instances)}
        for entry in list(self._fleet.entries.values()):
            for instance in list(entry.awake.servers) if entry.awake is not None else ():
                if instance in before and instance not in running:
                    await self._fleet.losses.lost(Exit(instance, entry.id, "lost while the node restarted"))
        for instance in before - running:  # instances of a revision that is being checked or drained
            if (server := instances.live.get(instance)) is not None:
                await instances.bury(server)
        for instance in running - instances.live.keys() - instances.starting:
            await instances.stop(instance)


def _forgotten(slot: SlotName, launch: Launch) -> Awake:
    """A stand-in for a revision that is not deployed any more, made from what one of its instances tells."""
    name, namespace = split_id(launch.function)
    function = Function(FunctionSpec(name, "", namespace), launch.digest, 0.0, launch.revision)
    limits = Limits(concurrency=launch.concurrency, exec_timeout=launch.exec_timeout)
    now = asyncio.get_running_loop().time()
    return Awake(slot, function, FunctionPolicy(grace=launch.grace, limits=limits), 0, Activity(now, 0), now)


def _version(function: Function) -> tuple[str, int, int]:
    """What an instance must have been started from to serve a function as it is now."""
    return function.digest, function.revision, function.generation
