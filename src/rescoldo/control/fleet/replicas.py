"""Brings awake functions to the number of instances that they should have.

Missing instances start side by side, and get requests when they are ready. Surplus instances, least loaded first,
leave the slot, finish their requests and are stopped.
"""

from __future__ import annotations

import asyncio
import logging

from rescoldo.control.fleet.awake import Awake, Scale
from rescoldo.control.fleet.entry import Entry
from rescoldo.control.fleet.instances import Instances
from rescoldo.control.fleet.outages import outlast
from rescoldo.edge.protocol import Edge
from rescoldo.model.errors import RescoldoError
from rescoldo.model.names import InstanceId
from rescoldo.policy.backoff import retry_delay
from rescoldo.policy.scaling import begin
from rescoldo.tasks import Tasks

log = logging.getLogger(__name__)


class Replicas:
    """Starts missing instances, and stops surplus ones."""

    def __init__(self, instances: Instances, edge: Edge, tasks: Tasks) -> None:
        self._instances = instances
        self._edge = edge
        self._tasks = tasks
        self._shrinking: set[Awake] = set()  # a task is choosing their surplus instances

    def want(self, entry: Entry, number: int, reason: str) -> None:
        """Set the number of an awake function at its user's request; the scaler begins anew with it."""
        awake = entry.awake
        if awake is None:
            return
        now = asyncio.get_running_loop().time()
        awake.scale = Scale(begin(now, number), now)
        self.change(entry, awake, number, reason)

    def change(self, entry: Entry, awake: Awake, number: int, reason: str) -> None:
        """Set the number of an awake function, remember the reason, and resize."""
        if number != awake.wanted:
            entry.note(asyncio.get_running_loop().time(), awake.wanted, number, reason)
            awake.wanted = number
        self.resize(entry)

    def resize(self, entry: Entry) -> None:
        """Begin to start missing or stop surplus instances of an awake function; return at once."""
        awake = entry.awake
        if awake is None:
            return
        missing = awake.wanted - len(awake.servers) - awake.starting
        if awake.failures:  # after a failure the next start is likely to fail, too: one at a time
            missing = min(missing, 1 - awake.starting)
        for _ in range(missing):
            awake.starting += 1
            self._tasks.spawn(f"start {entry.id}", self._start(entry, awake))
        if len(awake.servers) > awake.wanted and awake not in self._shrinking:
            self._shrinking.add(awake)
            self._tasks.spawn(f"shrink {entry.id}", self._shrink(entry, awake))

    async def _start(self, entry: Entry, awake: Awake) -> None:
        try:
            await self._instances.launch(awake, first=False)
            awake.failures = 0
        except RescoldoError as error:
            if entry.awake is awake:
                await self._pause(awake, error)
        finally:
            awake.starting -= 1
        if entry.awake is awake:
            self.resize(entry)

    async def _pause(self, awake: Awake, error: RescoldoError) -> None:
        """Wait for the back-off. Meanwhile the failed start still counts as one under way, so that `resize` starts no
        other."""
        now = asyncio.get_running_loop().time()
        if now >= awake.retry_at:  # the first of several starts that failed together
            awake.failures += 1
            awake.retry_at = now + retry_delay(awake.failures)
            log.warning("%s stays at %d instances for now: %s", awake.function.id, len(awake.servers), error.message)
        await asyncio.sleep(awake.retry_at - now)

    async def _shrink(self, entry: Entry, awake: Awake) -> None:
        try:
            while entry.awake is awake and len(awake.servers) > awake.wanted:
                loads = await outlast(lambda: self._edge.server_loads(awake.slot))
                if entry.awake is awake:
                    self._take_out(awake, {instance: loads.get(instance, 0) for instance in awake.servers})
        finally:
            self._shrinking.discard(awake)

    def _take_out(self, awake: Awake, loads: dict[InstanceId, int]) -> None:
        surplus = max(0, len(loads) - awake.wanted)
        youngest_first = list(reversed(loads))  # the sort is stable: of equal loads, the youngest goes
        for instance in sorted(youngest_first, key=lambda one: loads[one])[:surplus]:
            del awake.servers[instance]
            removing = self._instances.remove(awake.slot, instance, awake.policy.limits.exec_timeout)
            self._tasks.spawn(f"remove {instance}", removing)
