"""Notices that the run folder of a running platform is lost, whole or in part, and restores it.

logind may remove the folder at a logout, a cleaner of old files may, or a user by mistake. A listening socket cannot
get its lost path back; so another socket is bound there, and the process that accepts on it is restarted. The node
itself restores what it and its instances need (`keep_whole` in node/instances/folders.py).
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
    """Finds and restores the supervisor's part of the run folder."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._opened = -1
        self._edge_seen = 0  # pid of the last edge whose admin socket was there
        self._slots = ""
        with contextlib.suppress(OSError):
            self._hold_open()

    def _hold_open(self) -> None:
        """Open the folder, to recognise it later, and lock it: systemd-tmpfiles skips a locked folder."""
        fresh = os.open(self._settings.run_path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with contextlib.suppress(OSError):
            fcntl.flock(fresh, fcntl.LOCK_SH | fcntl.LOCK_NB)
        if self._opened >= 0:
            os.close(self._opened)
        self._opened = fresh

    def lost(self, edge: int) -> set[str]:
        """The names of lost sockets and files; `edge` is the pid of the edge."""
        settings = self._settings
        if not is_same(settings.run_path, self._opened, follow_symlinks=False):
            return {FOLDER, ADMIN, *ACCEPTED_BY}
        found = {name for name, path in paths_between_parts(settings).items() if not _is_socket(path)}
        if _is_socket(settings.admin_socket):
            self._edge_seen = edge
        elif self._edge_seen == edge:  # a new edge has yet to bind its own
            found.add(ADMIN)
        return found | {path.name for path in self._files() if not path.exists()} | self._lost_slots()

    def make_again(self, lost: set[str]) -> dict[str, socket.socket]:
        """Restore what is lost; return the newly bound sockets by name. Leaves the files of other processes to them.

        Raises OSError or InvalidInput when that is not possible now.
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
        """Whether the number of slots is lost: a restarted edge needs as many slots as the controller lends."""
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
