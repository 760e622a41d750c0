"""Notices that another process has committed to the database that is open here."""

from __future__ import annotations

import contextlib
import sqlite3

SECONDS = 1.0  # between looks


class OtherCommits:
    """For the thread that owns the connection. SQLite counts the commits of others: sqlite.org/pragma.html,
    data_version. It does not say what they changed."""

    def __init__(self) -> None:
        self._connection: sqlite3.Connection | None = None
        self._version = 0
        self._looked_at = 0.0

    def begin(self, connection: sqlite3.Connection) -> None:
        """Count from here on."""
        self._connection = connection
        with contextlib.suppress(sqlite3.Error):  # whoever reads or writes next is told of it
            self._version = _version(connection)

    def seen(self, connection: sqlite3.Connection, now: float) -> bool:
        """Whether others have committed since the last look, of which there is one every SECONDS; `now` in seconds. A
        database that was written again has another connection, which counts anew, and holds what it held before."""
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
