"""Translates SQLite's failures for the person who must repair the database."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from rescoldo.model.errors import StoreError, StoreLocked

DAMAGED = "it is damaged: stop rescoldo, then restore a backup or try `sqlite3 FILE .recover`"
_LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
# Primary result codes: sqlite.org/rescode.html
_REMEDIES = {
    sqlite3.SQLITE_FULL: "there is no space left for it: free some space (writing works again at once)",
    sqlite3.SQLITE_IOERR: "the disk refuses reads or writes: check free space, quota, file-size limit"
    " and the disk's health",
    sqlite3.SQLITE_READONLY: "it cannot be written: check the owner and mode of the file and its folder, and"
    " that the file system is mounted read-write",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened: check that its folder exists and may be written by this"
    " user",
    sqlite3.SQLITE_PERM: "it may not be opened: check the owner and mode of the file and its folder",
    sqlite3.SQLITE_CORRUPT: DAMAGED,
    sqlite3.SQLITE_NOTADB: "it is not a database: stop rescoldo, then move the file away or restore a backup",
    sqlite3.SQLITE_BUSY: "another process holds it locked: end that process (`fuser -v FILE` names it)",
    sqlite3.SQLITE_LOCKED: "another process holds it locked: end that process (`fuser -v FILE` names it)",
}


def store_error(path: Path, error: sqlite3.Error) -> StoreError:
    """Translate `error` into a StoreError that names the database and the remedy."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the low byte is the primary code
    kind = StoreLocked if code in _LOCKED else StoreError
    if (remedy := _REMEDIES.get(code)) is None:
        failure = kind(f"database {path}: {error}")
    else:
        failure = kind(f"database {path}: {remedy.replace('FILE', str(path))} [{error}]")
    failure.__cause__ = error
    return failure


def is_damage(error: StoreError) -> bool:
    """Return whether `error` means that the file is no database or a damaged one."""
    cause = error.__cause__
    if isinstance(cause, sqlite3.Error):
        return getattr(cause, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
    return DAMAGED.partition(":")[0] in error.message
