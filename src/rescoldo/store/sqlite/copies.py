"""The second copy of the deployed functions, in a file in memory: a lost database is restored from it.

The copy has all tables except the counts by minute, which are nearly all of a large database. Every group of writes is
applied to the copy, too, before it is acknowledged; so the copy misses nothing. It lives in the run folder: it outlives
the controller, but not the platform, and so it is never synced to a disk. It does without WAL, whose shared memory is a
mapped file: a file that is cut short must not end the process that maps it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

COUNTS = "usage"
Work = Callable[[sqlite3.Connection], Any]


class Copy:
    """An open copy. Methods raise sqlite3.Error."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    @classmethod
    def make(cls, path: Path, schema: Sequence[str], source: sqlite3.Connection) -> Copy:
        """Copy `source` to `path`, replacing any earlier copy. Raises OSError, too."""
        fresh = path.with_suffix(".new")
        for old in (fresh, Path(f"{fresh}-journal")):
            old.unlink(missing_ok=True)
        fresh.touch(mode=0o600)
        with closing(_connect(fresh)) as target:
            fill(target, schema, source)
        fresh.replace(path)
        return cls.open(path)

    @classmethod
    def open(cls, path: Path) -> Copy:
        """Open the copy at `path`. It is whole, because `make` puts it there in one step."""
        connection = _connect(path)
        connection.execute("PRAGMA foreign_keys = ON")
        return cls(connection)

    def apply(self, works: Iterable[Work]) -> None:
        """Repeat the writes of a committed group, without their counts by minute."""
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            for work in works:
                work(self.connection)
            self.connection.execute(f"DELETE FROM {COUNTS}")  # `works` have written them here, too
            self.connection.execute("COMMIT")
        except BaseException:
            self.connection.execute("ROLLBACK")
            raise

    def close(self) -> None:
        self.connection.close()


def fill(target: sqlite3.Connection, schema: Sequence[str], source: sqlite3.Connection) -> None:
    """Create the schema in the empty database `target`, and copy the rows of `source` except the counts by minute."""
    for step, script in enumerate(schema, start=1):
        target.executescript(f"BEGIN IMMEDIATE;\n{script}\n;PRAGMA user_version = {step};\nCOMMIT;")
    tables = [name for (name,) in target.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    target.execute("BEGIN IMMEDIATE")
    source.execute("BEGIN")
    try:
        for table in tables:
            if table != COUNTS:
                copy_rows(target, source, table)
        target.execute("COMMIT")
    finally:
        source.execute("ROLLBACK")


def copy_rows(target: sqlite3.Connection, source: sqlite3.Connection, table: str) -> None:
    """Replace the rows of a table that has the same columns in both databases."""
    target.execute(f"DELETE FROM {table}")
    rows = source.execute(f"SELECT * FROM {table}")
    marks = ", ".join("?" for _ in rows.description)
    target.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, isolation_level=None)
    connection.execute("PRAGMA journal_mode = TRUNCATE")
    connection.execute("PRAGMA synchronous = OFF")  # nobody needs the copy after the machine has crashed
    return connection
