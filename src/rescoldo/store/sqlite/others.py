"""Notices that another process has committed to the open database."""

from __future__ import annotations

import contextlib
import sqlite3

SECONDS = 1.0  # between polls


class OtherCommits:
    """Polls SQLite's counter of other connections' commits, which does not say what they changed.

    Only the thread that owns the connection may use it. Source: sqlite.org/pragma.html, data_version.
    """

    def __init__(self) -> None:
        self._connection: sqlite3.Connection | None = None
        self._version = 0
        self._looked_at = 0.0

    def begin(self, connection: sqlite3.Connection) -> None:
        """Count the commits from now on."""
        self._connection = connection
        with contextlib.suppress(sqlite3.Error):  # the next read or write reports the failure
            self._version = _version(connection)

    def seen(self, connection: sqlite3.Connection, now: float) -> bool:
        """Return whether others have committed since the last poll, at most once in SECONDS; `now` is in seconds.

        A restored database has a new connection, on which the count begins anew: its content is the same as before.
        """
        if connection is not self._connection:
            self.begin(connection)
        if now - self._looked_at < SECONDS:
            return False
        self._looked_at = now
        before = self._version
        with contextlib.suppress(sqlite3.Error):  # as in `begin`
            self._version = _version(connection)
        return self._version != before


def _version(connection: sqlite3.Connection) -> int:
    version: int = connection.execute("PRAGMA data_version").fetchone()[0]
    return version
