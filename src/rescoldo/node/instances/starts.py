"""Starts instances."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from rescoldo.model.coldstart import StartTimes
from rescoldo.model.errors import StartFailed
from rescoldo.model.instance import Launch, RunningInstance
from rescoldo.node.instances.admission import Admission
from rescoldo.node.instances.boot import Boot
from rescoldo.node.instances.stops import Stops
from rescoldo.node.instances.supervised import Supervised
from rescoldo.node.instances.supervision import Supervision
from rescoldo.node.sockets.endpoint import Neighbour


class Starts:
    """Takes a launch through admission and boot, and hands the serving instance to supervision."""

    def __init__(self, admission: Admission, boot: Boot, supervision: Supervision, stops: Stops) -> None:
        self._admission = admission
        self._boot = boot
        self._supervision = supervision
        self._stops = stops

    async def start(
        self, launch: Launch, on_address: Callable[[str], None], *, successor: bool = False
    ) -> RunningInstance:
        """See `Node.start`; here `on_address` gets only addresses that `instance_address` does not foretell. Raises
        Conflict for an instance that exists."""
        begun = time.monotonic()
        instance, leavers = self._admission.admit(launch, successor=successor)
        instance.took = StartTimes(slot=round((time.monotonic() - begun) * 1e6))
        if not instance.endpoint.foreseen:
            on_address(instance.address)
        task = instance.task = asyncio.create_task(self._start(instance, leavers), name=f"start {launch.instance}")
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise StartFailed(f"{launch.function}: stopped while it was starting") from None
            self._stops.begin(instance)
            raise  # the client is gone and would never stop the instance

    async def _start(self, instance: Supervised, leavers: list[Neighbour]) -> RunningInstance:
        try:
            await self._admission.take_memory(instance)
            instance.waited = await instance.endpoint.take_over(leavers)
            await self._boot.start(instance)
        # Not a cancellation: it comes from `Stops`, which ends and releases the instance itself.
        except Exception:
            await self._boot.end(instance, grace=0.0)
            self._admission.release(instance)
            raise
        self._supervision.begin(instance)
        return instance.running()
