"""Opens a database: creates, configures, checks and migrates it, in this order."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from rescoldo.model.errors import NewerSchema, StoreError
from rescoldo.store.sqlite.failures import DAMAGED, store_error

MAX_CHECKED = 64 * 2**20  # bytes of a file up to which a start checks all of it


def open_database(path: Path, schema: Sequence[str], busy_timeout: float) -> sqlite3.Connection:
    """Open or create the database at `path`, and bring its schema up to date. Raises StoreError, NewerSchema."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # it holds functions' variables, so others may not read it (the -wal and -shm files get the same mode)
        path.touch(mode=0o600)
    except OSError as error:
        raise StoreError(
            f"database {path}: it cannot be created or opened ({error.strerror}): check that its folder"
            " exists, may be written by this user and has free space"
        ) from error
    try:
        connection = sqlite3.connect(path, timeout=busy_timeout, isolation_level=None)
    except sqlite3.Error as error:
        raise store_error(path, error) from error
    try:
        _configure(connection)
        _check(connection, path)
        _migrate(connection, path, schema)
    except sqlite3.Error as error:
        connection.close()
        raise store_error(path, error) from error
    except StoreError:
        connection.close()
        raise
    return connection


def _configure(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    # FULL: an acknowledged write is on the disk. Group commit makes up for its price: 546 inserts a second with one for
    # each commit, 32,000 in batches of 100
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA journal_size_limit = 16777216")  # a burst must not leave a huge -wal file


def _check(connection: sqlite3.Connection, path: Path) -> None:
    """Raise StoreError if the file is damaged: better now than in the middle of a deployment.

    In a large file the check leaves out the counts by minute, which are nearly all of it; so a start does not wait.
    """
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    if path.stat().st_size > MAX_CHECKED:
        tables = [name for name in tables if name != "usage"]
    for table in tables:
        (verdict,) = connection.execute(f"PRAGMA quick_check('{table}')").fetchone()
        if verdict != "ok":
            raise StoreError(f"database {path}: {DAMAGED.replace('FILE', str(path))} [{table}: {verdict}]")


def _migrate(connection: sqlite3.Connection, path: Path, schema: Sequence[str]) -> None:
    """Bring the schema up to date, each step with its version in one transaction."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(schema):
        raise NewerSchema(
            f"database {path} has schema version {version}, and this rescoldo knows up to version"
            f" {len(schema)}: install the newer rescoldo that wrote it, or use another data directory"
        )
    for step, script in enumerate(schema[version:], start=version + 1):
        # on failure the connection is closed, which rolls the open transaction back
        connection.executescript(f"BEGIN IMMEDIATE;\n{script}\n;PRAGMA user_version = {step};\nCOMMIT;")
