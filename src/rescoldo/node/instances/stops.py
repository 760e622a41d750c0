"""Stops instances: one that is to end, or all when the node ends."""

from __future__ import annotations

import asyncio

from rescoldo.model.names import InstanceId
from rescoldo.node.instances.admission import Admission
from rescoldo.node.instances.boot import Boot
from rescoldo.node.instances.failed_calls import FailedCalls
from rescoldo.node.instances.roster import Roster
from rescoldo.node.instances.supervised import Supervised
from rescoldo.tasks import Tasks

LAST_GRACE = 10.0  # seconds that instances have in all when their node ends: the supervisor kills it after NODE_GRACE


class Stops:
    """Ends the processes of instances and lets the instances go."""

    def __init__(self, roster: Roster, admission: Admission, boot: Boot, failures: FailedCalls, tasks: Tasks) -> None:
        self._roster = roster
        self._admission = admission
        self._boot = boot
        self._failures = failures
        self._tasks = tasks

    async def stop(self, instance: InstanceId) -> None:
        """See Node.stop."""
        if (found := self._roster.find(instance)) is not None:
            await asyncio.shield(self.begin(found))

    async def stop_all(self) -> None:
        """Stop every instance, all at once, within LAST_GRACE and what it takes to kill them."""
        stops = [self.begin(instance) for instance in self._roster]
        if stops:
            await asyncio.wait(stops, timeout=LAST_GRACE)
        for process in self._roster.processes():
            process.kill()
        await asyncio.gather(*stops)

    def begin(self, instance: Supervised) -> asyncio.Task[None]:
        """Stop an instance, unless that has begun; return the task that does."""
        if instance.ending is None:
            instance.ending = self._tasks.spawn(f"stop {instance.note.launch.instance}", self._stop(instance))
        return instance.ending

    async def _stop(self, instance: Supervised) -> None:
        if instance.task is not None:
            instance.task.cancel()
            await asyncio.wait({instance.task})
        launch, ran = instance.note.launch, instance.process is not None
        reason, _ = await self._boot.end(instance, grace=launch.grace)
        if ran:
            self._failures.note_end(launch.function, launch.instance, f"{reason}, as requested")
        self._admission.release(instance)
