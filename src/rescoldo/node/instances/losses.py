"""Instances that nothing reaches any more, though their processes run: they are reported as lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from rescoldo.node.instances import notes
from rescoldo.node.instances.roster import Roster
from rescoldo.node.instances.stops import Stops
from rescoldo.node.instances.supervised import Supervised
from rescoldo.node.output.logs import LogBook
from rescoldo.node.protocol import Exit
from rescoldo.tasks import Tasks

UNREACHABLE_SECONDS = 5.0  # that a lost instance has to finish what it has begun; then it has its grace


class Losses:
    """Reports unreachable instances to the controller, which starts others. `on_exit` gets each."""

    def __init__(
        self, roster: Roster, stops: Stops, logs: LogBook, on_exit: Callable[[Exit], None], tasks: Tasks
    ) -> None:
        self._roster = roster
        self._stops = stops
        self._logs = logs
        self._on_exit = on_exit
        self._tasks = tasks

    def mend(self) -> None:
        """What was removed from the run folder while instances ran: a note is written again; an instance whose socket
        has no name any more is lost. Raises OSError."""
        for found in self._roster:
            if found.note.pid and not found.note_path.exists():  # whatever becomes of it, a next node must know of it
                notes.write(found.note_path, found.note)
            if found.serves and not found.is_whole:
                self._lose(found, "its socket or its folder was removed from the run folder")

    def left_port(self, instance: Supervised) -> None:
        """Nobody listens at the program's port. One that is on its way out anyway is left alone."""
        if not instance.is_leaving:
            self._lose(instance, f"nobody listens at its port {instance.note.launch.port}")

    def _lose(self, instance: Supervised, reason: str) -> None:
        """Nothing new reaches it. The controller starts another and has this one stopped, with its grace."""
        launch = instance.note.launch
        self._logs.write(launch.function, launch.instance, [f"instance lost: {reason}"])
        if instance.task is not None:
            instance.task.cancel()
        instance.task = self._tasks.spawn(f"lost {launch.instance}", self._outlive(instance))
        self._on_exit(Exit(launch.instance, launch.function, reason, instance.stop_serving()))

    async def _outlive(self, instance: Supervised) -> None:
        """Wait for the controller; one that starts just now never knows of it."""
        await asyncio.sleep(UNREACHABLE_SECONDS)
        self._stops.begin(instance)
