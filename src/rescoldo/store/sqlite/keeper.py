"""Notices that a running platform has lost its database, and restores it from the second copy."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from rescoldo.durable import sync_folder
from rescoldo.model.errors import StoreError
from rescoldo.store.protocol import Condition
from rescoldo.store.sqlite.copies import COUNTS, Copy, Work, copy_rows, fill
from rescoldo.store.sqlite.failures import store_error
from rescoldo.store.sqlite.files import SUFFIXES, Files, paths

HEADER = 100  # bytes of SQLite's header: a shorter file is no database

log = logging.getLogger(__name__)


class Keeper:
    """Watches one database and restores it. Only `condition` may be read outside the connection's thread."""

    def __init__(
        self, path: Path, schema: Sequence[str], copy: Path, reopen: Callable[[], sqlite3.Connection]
    ) -> None:
        self._path = path
        self._schema = schema
        self._place = copy
        self._reopen = reopen
        self._files = Files(path)
        self._copy: Copy | None = None
        self._without = False  # the last attempt to make a copy failed, and the log has it
        self._unfinished = ""  # the reason of a restoration that failed after it had closed the connection
        self.condition = Condition()

    def begin(self, connection: sqlite3.Connection) -> None:
        """Make a new copy, and record the files' present state."""
        self._files = Files(self._path)
        self._make_copy(connection)
        self._files.note()

    def restored_at_start(self, reason: str) -> sqlite3.Connection | None:
        """Restore the database from the previous controller's copy; return None if there is none."""
        try:
            self._copy = Copy.open(self._place)
        except sqlite3.Error:
            return None
        return self._put_in_place(reason, counts=self._make_fresh(None))

    def wrote(self, connection: sqlite3.Connection, works: Sequence[Work]) -> None:
        """Repeat a committed group in the copy."""
        if works and self._copy is not None:
            try:
                self._copy.apply(works)
            except sqlite3.Error as error:  # no memory, or the copy was removed: it is incomplete now
                log.warning("making a new second copy of the database: %s", error)
                self._make_copy(connection)
        self._files.note()

    def look(self, connection: sqlite3.Connection) -> sqlite3.Connection:
        """Check the files. Return `connection`, or a new one if the database had to be restored: an open one in any
        case. It has no tables if a restoration closed `connection` and failed then; `condition` says so."""
        reason = self._unfinished or self._files.lost() or self._damage()
        if reason:
            return self._restored(connection, reason)
        if self._copy is None or not self._place.exists():  # the run folder was made again, or has room again
            self._make_copy(connection)
        return connection

    def _damage(self) -> str:
        """Name the change by another process that damaged the database; empty if there is none."""
        what = self._files.changed()
        if not what:
            return ""
        try:
            if self._path.stat().st_size < HEADER:
                return what
            with closing(sqlite3.connect(f"{self._path.as_uri()}?mode=ro", uri=True)) as other:
                verdict = other.execute("PRAGMA quick_check(1)").fetchone()[0]
                whole = verdict == "ok" and (self._copy is None or _same(other, self._copy.connection))
        except (OSError, sqlite3.Error):
            whole = False
        if whole:  # for example a checkpoint by a process that only read the database
            self._files = Files(self._path)
            self._files.note()
        return "" if whole else what

    def _restored(self, connection: sqlite3.Connection, reason: str) -> sqlite3.Connection:
        """Restore the database. A failure before the new file is complete leaves everything as it was."""
        try:
            counts = self._make_fresh(connection)
        except (OSError, sqlite3.Error, StoreError) as error:
            self._fail(reason, error)
            return connection
        with contextlib.suppress(sqlite3.Error):
            connection.close()  # first: SQLite may remove -wal and -shm by their names when it closes
        try:
            return self._put_in_place(reason, counts=counts)
        except (OSError, sqlite3.Error, StoreError) as error:
            self._fail(reason, error)
            self._unfinished = reason  # the files may look right by now
            return sqlite3.connect(":memory:", isolation_level=None)

    @property
    def _fresh(self) -> Path:
        return self._path.with_suffix(".again")

    def _make_fresh(self, old: sqlite3.Connection | None) -> bool:
        """Write the database anew beside its place. Return whether the counts by minute could be copied from `old`.
        Raises OSError, sqlite3.Error, StoreError."""
        if self._copy is None:
            raise StoreError("there is no second copy: stop rescoldo and restore a backup")
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = self._fresh
        for path in paths(fresh):
            path.unlink(missing_ok=True)
        fresh.touch(mode=0o600)
        with closing(sqlite3.connect(fresh, isolation_level=None)) as target:
            fill(target, self._schema, self._copy.connection)
            return old is not None and _copy_counts(target, old)

    def _put_in_place(self, reason: str, *, counts: bool) -> sqlite3.Connection:
        """Replace the lost database with the fresh one, and return a connection to it. Raises OSError, sqlite3.Error,
        StoreError."""
        self._put_aside()
        self._fresh.replace(self._path)
        sync_folder(self._path.parent)
        connection = self._reopen()
        self._unfinished = ""
        self._files = Files(self._path)
        self._files.note()
        lost = "" if counts else "the counts of calls by minute (the totals are kept)"
        self.condition = Condition("", self.condition.rewritten + 1, time.time(), reason, lost)
        log.error(
            "the database %s was lost (%s); restored it from memory; lost: %s",
            self._path, reason, lost or "nothing",
        )
        return connection

    def _put_aside(self) -> None:
        """Rename the damaged files, because they may be worth a look."""
        for suffix in SUFFIXES:
            there = Path(f"{self._path}{suffix}")
            if there.exists() and there.stat().st_size:
                there.replace(f"{self._path}.damaged{suffix}")
            else:
                there.unlink(missing_ok=True)

    def _fail(self, reason: str, error: Exception) -> None:
        why = store_error(self._path, error).message if isinstance(error, sqlite3.Error) else str(error)
        problem = f"it was lost ({reason}) and cannot be restored from memory: {why}; retrying every second"
        if problem != self.condition.problem:
            log.error("database %s: %s", self._path, problem)
        self.condition = replace(self.condition, problem=problem)

    def _make_copy(self, connection: sqlite3.Connection) -> None:
        before, self._copy = self._copy, None
        if before is not None:
            before.close()
        try:
            self._copy = Copy.make(self._place, self._schema, connection)
        except (OSError, sqlite3.Error) as error:
            if not self._without:
                log.warning("cannot make a second copy of the database: %s; retrying every second", error)
            self._without = True
        else:
            self._without = False


def is_empty(path: Path) -> bool:
    """Return whether the database does not exist yet, or is gone."""
    try:
        return path.stat().st_size < HEADER and path.is_file()
    except OSError:
        return True


def _copy_counts(target: sqlite3.Connection, old: sqlite3.Connection) -> bool:
    """Copy the counts by minute, which only the lost database had, if its connection can still read them: a file that
    was merely unlinked is whole. Return whether they were copied."""
    try:
        if old.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            return False
        target.execute("BEGIN IMMEDIATE")
        copy_rows(target, old, COUNTS)
        target.execute("COMMIT")
    except sqlite3.Error:
        if target.in_transaction:
            target.execute("ROLLBACK")
        return False
    return True


def _same(one: sqlite3.Connection, other: sqlite3.Connection) -> bool:
    """Return whether both databases hold the same rows, apart from the counts by minute."""
    names = "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name"
    tables = [name for (name,) in other.execute(names) if name != COUNTS]
    return all(_rows(one, table) == _rows(other, table) for table in tables)


def _rows(connection: sqlite3.Connection, table: str) -> list[tuple[object, ...]]:
    return sorted(connection.execute(f"SELECT * FROM {table}"))
