"""Restores the supervisor's files in the data folder of a running platform when they are lost.

These are the lock, the record of the settings and the platform's own log. The database, the passwords and the bundles
belong to the controller and the node.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from pathlib import Path

from rescoldo.model.settings import Settings
from rescoldo.supervisor.folders import is_same, make
from rescoldo.supervisor.guardian import LOG
from rescoldo.supervisor.held_descriptors import HeldDescriptors
from rescoldo.supervisor.place import lock_file, name_holder

LOCK = "lock"

log = logging.getLogger(__name__)


class DataFolder:
    """Checks the data folder and restores lost files. `held` has the lock and, for a platform in the background, the
    log."""

    def __init__(self, settings: Settings, held: HeldDescriptors) -> None:
        self._settings = settings
        self._held = held
        self._logs_here = _is_log(settings.platform_log)
        self._said = ""

    def mend(self) -> None:
        """Restore lost files; log the same failure only once."""
        try:
            self._reopen_log()
            lost = [path for path in (lock_file(self._settings), self._settings.record) if not path.exists()]
            if not is_same(lock_file(self._settings), self._held.table[LOCK][0]):
                make(self._settings.data_path, 0o700)
                self._lock_again()
            if not self._settings.record.exists():
                self._settings.save(self._settings.record)
            if lost:
                names = ", ".join(path.name for path in lost)
                log.warning("%s was missing from %s; made it again", names, self._settings.data)
            self._said = ""
        except Exception as error:
            if str(error) != self._said:
                log.error("the data folder %s is incomplete and cannot be repaired: %s", self._settings.data, error)
            self._said = str(error)

    def _lock_again(self) -> None:
        """Lock a new lock file: without it a second platform could take the folder."""
        fresh = os.open(lock_file(self._settings), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fresh, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fresh)
            raise BlockingIOError("another platform uses it, too: stop one of the two") from None
        name_holder(fresh, self._held.guardian)
        (before,) = self._held.table[LOCK]
        self._held.keep(LOCK, fresh)
        os.close(before)

    def _reopen_log(self) -> None:
        """Open the log again after its removal, or after a log rotation renamed it."""
        path = self._settings.platform_log
        if not self._logs_here or is_same(path, 2):
            return
        fresh = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        os.dup2(fresh, 2)
        self._held.keep(LOG, fresh)
        log.info("%s was removed or renamed; opened it again", path)


def _is_log(path: Path) -> bool:
    """Whether standard error is this file, or was this file before its removal."""
    with contextlib.suppress(OSError):
        return is_same(path, 2) or os.readlink("/proc/self/fd/2") == f"{path} (deleted)"  # noqa: PTH115
    return False
