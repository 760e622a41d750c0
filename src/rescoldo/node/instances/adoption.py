"""Recovery after a dead node: running instances are adopted, everything else is removed."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

from rescoldo.model.settings import Settings
from rescoldo.node.instances import notes
from rescoldo.node.instances.admission import Admission
from rescoldo.node.instances.boot import Boot
from rescoldo.node.instances.failed_calls import FailedCalls
from rescoldo.node.instances.fork_watch import ForkWatch
from rescoldo.node.instances.notes import Note
from rescoldo.node.instances.roster import Roster
from rescoldo.node.instances.supervised import Supervised
from rescoldo.node.processes.kept_listeners import Key
from rescoldo.node.processes.processes import Watched, read_stat, signal_group
from rescoldo.node.processes.sandboxes import Sandboxes
from rescoldo.node.sockets.addresses import remove_socket
from rescoldo.node.sockets.program_socket import remove_folder

_UNKNOWN = "unknown reason: the node restarted meanwhile"


class Adoption:
    """Adopts instances once, before the node answers clients. `on_adopted` receives each adopted instance."""

    def __init__(
        self,
        settings: Settings,
        roster: Roster,
        admission: Admission,
        boot: Boot,
        failures: FailedCalls,
        sandboxes: Sandboxes,
        on_adopted: Callable[[Supervised], None],
        forks: ForkWatch | None,
        on_unanswered: Callable[[Supervised], None],
    ) -> None:
        """`forks` takes over the instances that ask for their forks, and `on_unanswered` receives those that nobody can
        answer any more."""
        self._settings = settings
        self._roster = roster
        self._admission = admission
        self._boot = boot
        self._failures = failures
        self._sandboxes = sandboxes
        self._on_adopted = on_adopted
        self._forks = forks
        self._on_unanswered = on_unanswered

    async def adopt(self) -> None:
        """Adopt the instances that a dead node left running, and remove its other leftovers."""
        for path, note in notes.read_all(self._settings.instance_state):
            if not self._take_over(path, note):
                await self._clean_up(path, note)
        self._answer_forks()
        await self._remove_others()

    def _answer_forks(self) -> None:
        if self._forks is not None:
            adopted = {Key(found.note.pid, found.note.pid_start): found for found in self._roster}
            for instance in self._forks.regain(adopted):
                self._on_unanswered(instance)

    def _take_over(self, path: Path, note: Note | None) -> bool:
        if note is None or (process := _still_running(note)) is None:
            return False
        if (instance := self._admission.adopt(note, path, process)) is None:
            return False
        self._on_adopted(instance)
        return True

    async def _clean_up(self, path: Path, note: Note | None) -> None:
        if note is not None:
            stat = read_stat(note.pid) if note.pid else None
            if stat is not None and stat.started == note.pid_start:
                signal_group(note.pid, signal.SIGKILL)
            if note.uid is not None:
                await self._admission.take_back(note.uid, self._boot.sweep)
            remove_socket(note.address)
            self._failures.note_end(note.launch.function, note.launch.instance, _UNKNOWN)
        notes.remove(path)  # `_remove_others` removes its FIFOs

    async def _remove_others(self) -> None:
        """Remove files, folders and sandboxes without an instance."""
        for folder in (self._settings.instances, self._settings.instance_state):
            for file in folder.iterdir():
                if file.stem not in self._roster:
                    file.unlink(missing_ok=True)
        for folder in self._settings.scratch.iterdir():
            if folder.name not in self._roster:
                shutil.rmtree(folder, ignore_errors=True)
        for folder in self._settings.program_sockets.iterdir():
            if folder.name not in self._roster:
                remove_folder(folder)
        await self._sandboxes.remove_others(self._roster.sandboxes())


def _still_running(note: Note) -> Watched | None:
    """The process that `note` describes, if the note says ready and the pid still means that process."""
    if not note.ready:
        return None
    try:
        pidfd = os.pidfd_open(note.pid)
    except ProcessLookupError:
        return None
    stat = read_stat(note.pid)  # read while the pidfd holds: if it matches, the pidfd means this process
    if stat is None or stat.state == "Z" or stat.started != note.pid_start:
        os.close(pidfd)
        return None
    return Watched(note.pid, pidfd)
