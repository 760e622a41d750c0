"""Stops instances: one on request, or all when the node ends."""

from __future__ import annotations

import asyncio

from rescoldo.model.names import InstanceId
from rescoldo.node.instances.admission import Admission
from rescoldo.node.instances.boot import Boot
from rescoldo.node.instances.failed_calls import FailedCalls
from rescoldo.node.instances.roster import Roster
from rescoldo.node.instances.supervised import Supervised
from rescoldo.tasks import Tasks

# seconds of grace for all instances together when the node ends: the supervisor kills the node after NODE_GRACE
LAST_GRACE = 10.0


class Stops:
    """Ends the processes of instances and releases the instances."""

    def __init__(self, roster: Roster, admission: Admission, boot: Boot, failures: FailedCalls, tasks: Tasks) -> None:
        self._roster = roster
        self._admission = admission
        self._boot = boot
        self._failures = failures
        self._tasks = tasks

    async def stop(self, instance: InstanceId) -> None:
        """See `Node.stop`."""
        if (found := self._roster.find(instance)) is not None:
            await asyncio.shield(self.begin(found))  # a client that disconnects must not interrupt the stop

    async def stop_all(self) -> None:
        """Stop all instances concurrently: LAST_GRACE seconds, then the time to kill the rest."""
        stops = [self.begin(instance) for instance in self._roster]
        if stops:
            await asyncio.wait(stops, timeout=LAST_GRACE)
        for process in self._roster.processes():
            process.kill()
        await asyncio.gather(*stops)

    def begin(self, instance: Supervised) -> asyncio.Task[None]:
        """Begin to stop an instance, unless a stop is under way; return the task that stops it."""
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
