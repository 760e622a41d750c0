"""The run folder of a platform that runs: noticed when it is lost, whole or in part, and made again.

Somebody may remove it: logind at a logout, a cleaner of old files, a hand that slipped. Listening sockets have no name
any more then, and nobody can give one its name back; so another is bound in its place, and what accepts on it is
started again. What instances and their node need is the node's own (`keep_whole` in node/instances/folders.py).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import stat
from pathlib import Path

from rescoldo.model.settings import Settings
from rescoldo.supervisor.folders import is_same, make_run, make_sockets
from rescoldo.supervisor.sockets import ACCEPTED_BY, listen_between_parts, paths_between_parts

FOLDER, ADMIN = "folder", "admin"


class RunFolder:
    """Looks after what the supervisor has put there."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._opened = -1
        self._edge_seen = 0  # pid of the edge whose admin socket was there
        self._slots = ""
        with contextlib.suppress(OSError):
            self._hold_open()

    def _hold_open(self) -> None:
        """Hold it open, to know it again, and locked: systemd-tmpfiles passes over a folder that is."""
        fresh = os.open(self._settings.run_path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with contextlib.suppress(OSError):
            fcntl.flock(fresh, fcntl.LOCK_SH | fcntl.LOCK_NB)
        if self._opened >= 0:
            os.close(self._opened)
        self._opened = fresh

    def lost(self, edge: int) -> set[str]:
        """The names of what is not there any more; `edge` is the pid of the edge."""
        settings = self._settings
        if not is_same(settings.run_path, self._opened, follow_symlinks=False):
            return {FOLDER, ADMIN, *ACCEPTED_BY}
        found = {name for name, path in paths_between_parts(settings).items() if not _is_socket(path)}
        if _is_socket(settings.admin_socket):
            self._edge_seen = edge
        elif self._edge_seen == edge:  # another one has yet to bind it
            found.add(ADMIN)
        return found | {path.name for path in self._files() if not path.exists()} | self._lost_slots()

    def make_again(self, lost: set[str]) -> dict[str, socket.socket]:
        """Make again what is lost; return the sockets that were bound anew, by name. What others write is theirs.

        Raises OSError or InvalidInput where that is not possible now.
        """
        settings = self._settings
        if FOLDER in lost:
            make_run(settings)
            self._hold_open()
        make_sockets(settings)
        if not settings.settings_file.exists():
            settings.save()
        if self._slots and not settings.slots_file.exists():
            settings.slots_file.write_text(self._slots)
        return listen_between_parts(settings, sorted(ACCEPTED_BY.keys() & lost))

    def _files(self) -> tuple[Path, ...]:
        return self._settings.settings_file, self._settings.pid_file, self._settings.children_file

    def _lost_slots(self) -> set[str]:
        """An edge that starts again needs as many slots as the controller lends."""
        try:
            self._slots = self._settings.slots_file.read_text()
        except OSError:
            return {"slots"} if self._slots else set()
        return set()


def _is_socket(path: Path) -> bool:
    try:
        return stat.S_ISSOCK(path.lstat().st_mode)
    except OSError:
        return False
