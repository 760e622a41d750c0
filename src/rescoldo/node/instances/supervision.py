"""Watches serving instances: after an unrequested end, another process takes over the socket, or the instance is
reported as lost."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from functools import partial
from http import HTTPStatus

from rescoldo.model.calls import FailedCall
from rescoldo.model.errors import RescoldoError
from rescoldo.model.instance import Launch
from rescoldo.node.instances.admission import Admission
from rescoldo.node.instances.boot import Boot
from rescoldo.node.instances.deaf import DeafWatch
from rescoldo.node.instances.failed_calls import FailedCalls
from rescoldo.node.instances.roster import Roster
from rescoldo.node.instances.supervised import Supervised
from rescoldo.node.protocol import Exit
from rescoldo.node.sockets.listeners import Listeners, is_shut
from rescoldo.node.sockets.waiting import WaitingRequests
from rescoldo.policy.respawn import FREE_DEATHS, MOST_FAILED_STARTS, early_deaths, respawn_pause
from rescoldo.tasks import Tasks

LOST_SECONDS = 60.0  # a running controller stops a lost instance sooner


class Supervision:
    """Supervises every serving instance, with one task each. `on_exit` receives each lost instance."""

    def __init__(
        self,
        roster: Roster,
        admission: Admission,
        boot: Boot,
        deaf: DeafWatch,
        listeners: Listeners,
        waiting: WaitingRequests,
        failures: FailedCalls,
        on_exit: Callable[[Exit], None],
        tasks: Tasks,
    ) -> None:
        self._roster = roster
        self._admission = admission
        self._boot = boot
        self._deaf = deaf
        self._listeners = listeners
        self._waiting = waiting
        self._failures = failures
        self._on_exit = on_exit
        self._tasks = tasks

    def begin(self, instance: Supervised) -> None:
        """Begin to watch an instance that serves now."""
        self._deaf.look_at(instance)
        instance.task = self._tasks.spawn(f"guard {instance.note.launch.instance}", self._watch(instance))

    async def _watch(self, instance: Supervised) -> None:
        """Wait for an unrequested end and replace the process on its socket, again and again until that fails."""
        deaths = 0
        while True:
            assert instance.process is not None
            await instance.process.ended.wait()
            deaths = early_deaths(deaths, ready_at=instance.ready_at, ended_at=time.monotonic())
            reason = await self._find_reason(instance)
            if not instance.endpoint.replaceable:
                break
            instance.output.keep([f"instance ended: {reason}; replaced"])
            await asyncio.sleep(respawn_pause(deaths))
            if (failure := await self._replace(instance)) is not None:
                reason = f"{reason}; its replacement failed: {failure}"
                break
        await self._give_up(instance, reason)

    async def _find_reason(self, instance: Supervised) -> str:
        """Return why the instance's process has just ended, and end its other processes. After an out-of-memory
        end, answer the calls that it had begun."""
        launch, endpoint, ended_at = instance.note.launch, instance.endpoint, time.time()
        reason, starved = await self._boot.end(instance, grace=0.0)
        instance.has_room = False
        self._failures.note_end(launch.function, launch.instance, reason)
        if starved and (backlog := endpoint.backlog) is not None:
            tell = partial(self._record_answered, launch)
            await self._waiting.refuse_begun(backlog, endpoint.backlog_address, reason, ended_at, tell)
        return reason

    async def _replace(self, instance: Supervised) -> str | None:
        """Start another process on the instance's socket; return the reason for a failure, or None."""
        assert instance.endpoint.backlog is not None
        if is_shut(instance.endpoint.backlog):
            self._deaf.renew(instance)
        for attempt in range(MOST_FAILED_STARTS):
            try:
                await self._admission.take_memory(instance)
                await self._boot.start(instance)
                self._listeners.begin_anew(instance.endpoint.backlog)
                return None
            except RescoldoError as error:
                failure = error.message
                await asyncio.sleep(respawn_pause(attempt + FREE_DEATHS))
        return failure

    async def _give_up(self, instance: Supervised, reason: str) -> None:
        """Report the instance as lost. Until the controller has it stopped, pass its waiting requests on to another
        instance, or answer them."""
        launch, cause = instance.note.launch, reason.splitlines()[0]
        instance.output.keep([f"instance ended: {cause}"])
        self._on_exit(Exit(launch.instance, launch.function, reason, instance.stop_serving()))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOST_SECONDS):
                if (backlog := instance.endpoint.backlog) is not None:
                    self._listeners.remove(backlog)
                    substitute = partial(self._roster.substitute, instance)
                    tell = partial(self._record_answered, launch)
                    await self._waiting.serve_elsewhere(backlog, cause, substitute, tell)
                await asyncio.sleep(LOST_SECONDS)  # without a backlog
        self._admission.release(instance)

    def _record_answered(self, launch: Launch, call_id: str, reason: str) -> None:
        """Record a call that the node has answered in place of an ended instance."""
        now, status = time.time(), HTTPStatus.BAD_GATEWAY
        self._failures.record(FailedCall(launch.function, launch.instance, call_id, now, status, reason))
