"""Reports instances as lost when requests cannot reach them any more, though their processes run."""

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

UNREACHABLE_SECONDS = 5.0  # for a lost instance to finish its requests, before it is stopped with its grace


class Losses:
    """Reports unreachable instances to the controller, which starts others. `on_exit` receives each loss."""

    def __init__(
        self, roster: Roster, stops: Stops, logs: LogBook, on_exit: Callable[[Exit], None], tasks: Tasks
    ) -> None:
        self._roster = roster
        self._stops = stops
        self._logs = logs
        self._on_exit = on_exit
        self._tasks = tasks

    def mend(self) -> None:
        """Repair removals from the run folder: rewrite missing notes, and report instances as lost whose socket or
        folder has lost its name. Raises OSError."""
        for found in self._roster:
            # even for an instance that is about to be lost: the next node must know of it
            if found.note.pid and not found.note_path.exists():
                notes.write(found.note_path, found.note)
            if found.serves and not found.is_whole:
                self._lose(found, "its socket or its folder was removed from the run folder")

    def left_port(self, instance: Supervised) -> None:
        """Report a program whose port has no listener as lost, unless it is leaving anyway."""
        if not instance.is_leaving:
            self._lose(instance, f"nobody listens at its port {instance.note.launch.port}")

    def unanswered(self, instance: Supervised) -> None:
        """Report an adopted instance as lost whose forks nobody can answer any more, so that they fail."""
        if not instance.is_leaving:
            self._lose(instance, "the platform's processes have all ended, and its forks failed since")

    def _lose(self, instance: Supervised, reason: str) -> None:
        """Report the instance as lost. The controller starts another and stops this one, with its grace."""
        launch = instance.note.launch
        self._logs.write(launch.function, launch.instance, [f"instance lost: {reason}"])
        if instance.task is not None:
            instance.task.cancel()  # the guard would replace the process, or report the loss again
        instance.task = self._tasks.spawn(f"lost {launch.instance}", self._outlive(instance))
        self._on_exit(Exit(launch.instance, launch.function, reason, instance.stop_serving()))

    async def _outlive(self, instance: Supervised) -> None:
        """Wait for the controller to stop the instance, then stop it anyway: a controller that is just starting
        never learns of the loss."""
        await asyncio.sleep(UNREACHABLE_SECONDS)
        self._stops.begin(instance)
