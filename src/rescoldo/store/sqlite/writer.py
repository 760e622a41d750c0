"""The thread that owns the SQLite connection, and its group commit.

Operations wait in a queue. The thread takes all of them, runs each inside a savepoint and commits once. It hands out a
result only after that commit (`synchronous=FULL`: after the disk has it). No other thread may touch the connection.

Before and after each group, and every LOOK_SECONDS, the thread checks whether another process removed or changed the
files (`keeper.py`). So it never acknowledges a write to an unlinked file. Once a second it also polls for the commits
of other processes (`others.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from rescoldo.model.errors import StoreError
from rescoldo.store.protocol import Condition
from rescoldo.store.sqlite.failures import is_damage, store_error
from rescoldo.store.sqlite.keeper import Keeper, is_empty
from rescoldo.store.sqlite.opening import open_database
from rescoldo.store.sqlite.others import OtherCommits

log = logging.getLogger(__name__)

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], Any]

LOOK_SECONDS = 1.0  # between checks of the files while the queue is empty
MAX_GROUP = 1000  # operations in one commit; bounds how long the first waits for the last


class _Operation:
    """One queued read or write, and its outcome, which the caller gets after the commit."""

    __slots__ = ("failure", "future", "result", "work", "writes")

    def __init__(self, work: Work, writes: bool) -> None:
        self.work = work
        self.writes = writes
        self.future: Future[Any] = Future()
        self.result: Any = None
        self.failure: Exception | None = None

    def finish(self) -> None:
        if self.failure is None:
            self.future.set_result(self.result)
        else:
            self.future.set_exception(self.failure)

    def fail(self, failure: Exception) -> None:
        self.failure = failure
        self.finish()


class Writer:
    """Runs reads and writes on one connection in one thread; any event loop may await them."""

    def __init__(self, path: Path, schema: Sequence[str], busy_timeout: float, copy: Path | None = None) -> None:
        """`schema` are the migrations from version 0; `busy_timeout` is in seconds. `copy` is the path of the second
        copy, from which a lost database is restored; without it, a loss goes unnoticed."""
        self.path = path
        self._copy = copy
        self._keeper: Keeper | None = None
        self.on_others: Callable[[], None] | None = None  # called in the thread after another process committed
        self._others = OtherCommits()
        self._failing = ""  # why the last group's writes failed
        self._schema = schema
        self._busy_timeout = busy_timeout
        self._queue: SimpleQueue[_Operation | None] = SimpleQueue()
        self._opened: Future[None] = Future()
        self._lock = threading.Lock()  # guards _closed: no operation may be queued behind the end mark
        self._closed = False
        # a daemon: acknowledged writes are on disk, so a process that ends without close() loses nothing
        self._thread = threading.Thread(target=self._main, name="rescoldo-store", daemon=True)

    async def open(self) -> None:
        """Open or create the database and bring its schema up to date. Raises StoreError, NewerSchema."""
        self._thread.start()
        await asyncio.wrap_future(self._opened)

    @property
    def condition(self) -> Condition:
        """The database's health; any thread may read it."""
        found = self._keeper.condition if self._keeper is not None else Condition()
        return replace(found, problem=found.problem or self._failing)

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work`, which must not write."""
        return await self._submit(work, writes=False)

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in a transaction and return its result once it is durable.

        `work` may run more than once: again when its group failed, and on the second copy. So its only effect may be on
        the database.
        """
        return await self._submit(work, writes=True)

    async def close(self) -> None:
        """Finish the queued operations and close the connection. Idempotent."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    async def _submit(self, work: Callable[[sqlite3.Connection], T], *, writes: bool) -> T:
        operation = _Operation(work, writes)
        with self._lock:
            if self._closed:
                raise StoreError(f"database {self.path}: it was closed")
            self._queue.put(operation)
        result: T = await asyncio.wrap_future(operation.future)
        return result

    # -- everything below runs in the thread

    def _main(self) -> None:
        try:
            connection = self._open()
        except Exception as error:
            self._opened.set_exception(error)
            return
        self._others.begin(connection)
        self._opened.set_result(None)
        try:
            while True:
                group = self._next_group()
                connection = self._look(connection)
                if group is not None:
                    if not group:
                        return
                    connection = self._run(connection, group)
        finally:
            with contextlib.suppress(sqlite3.Error):  # everything acknowledged is committed already
                connection.close()

    def _open(self) -> sqlite3.Connection:
        if self._copy is None:
            return open_database(self.path, self._schema, self._busy_timeout)
        keeper = Keeper(self.path, self._schema, self._copy, self._reopen)
        if is_empty(self.path):
            connection = keeper.restored_at_start("it was missing or empty") or self._reopen()
        else:
            try:
                connection = self._reopen()
            except StoreError as error:
                if not is_damage(error):
                    raise
                restored = keeper.restored_at_start("it was damaged")
                if restored is None:
                    raise
                connection = restored
        keeper.begin(connection)
        self._keeper = keeper
        return connection

    def _reopen(self) -> sqlite3.Connection:
        return open_database(self.path, self._schema, self._busy_timeout)

    def _look(self, connection: sqlite3.Connection) -> sqlite3.Connection:
        """Check that the files still belong to `connection`, or return a connection to the restored files."""
        if self._keeper is not None:
            connection = self._keeper.look(connection)
        if self._others.seen(connection, time.monotonic()) and self.on_others is not None:
            self.on_others()
        return connection

    def _run(self, connection: sqlite3.Connection, group: Sequence[_Operation]) -> sqlite3.Connection:
        keeper = self._keeper
        if keeper is not None and keeper.condition.problem:
            failure = StoreError(f"database {self.path}: {keeper.condition.problem}")
            for operation in group:
                operation.fail(failure)
            return connection
        _run_group(connection, self.path, group)
        writes = [operation for operation in group if operation.writes]
        if writes:
            failures = [operation.failure for operation in writes if isinstance(operation.failure, StoreError)]
            self._failing = failures[0].message.partition(": ")[2] if failures else ""
        if keeper is not None:
            keeper.wrote(connection, [operation.work for operation in writes if operation.failure is None])
            connection = keeper.look(connection)
        for operation in group:
            operation.finish()
        return connection

    def _next_group(self) -> list[_Operation] | None:
        """Wait for an operation and take those queued behind it. An empty list means the end, None that none came."""
        group: list[_Operation] = []
        try:
            operation = self._queue.get(timeout=LOOK_SECONDS)
        except Empty:
            return None
        with contextlib.suppress(Empty):
            while operation is not None:
                if operation.future.set_running_or_notify_cancel():
                    group.append(operation)
                if len(group) >= MAX_GROUP:
                    return group
                # block while every operation so far was cancelled: an empty group would mean the end
                operation = self._queue.get(block=not group)
            self._queue.put(None)  # put the end mark back for the call after this group
        return group


def _run_group(connection: sqlite3.Connection, path: Path, group: Sequence[_Operation]) -> None:
    """Run a group in one transaction; if that fails as a whole, run each operation in a transaction of its own."""
    writes = any(operation.writes for operation in group)
    try:
        # take the write lock at once, so that a locked database fails here and not half-way
        connection.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
    except sqlite3.Error as error:
        _refuse(connection, path, group, error)
        return
    try:
        for operation in group:
            _run_operation(connection, path, operation)
        connection.execute("COMMIT")
    except Exception as error:
        _roll_back(connection)
        if len(group) == 1:
            _fail(path, group, error)
            return
        for operation in group:
            _run_group(connection, path, [operation])


def _refuse(
    connection: sqlite3.Connection, path: Path, group: Sequence[_Operation], error: sqlite3.Error
) -> None:
    """Fail the writes of a group whose transaction could not begin, and run its reads, which need no lock.

    The writes fail together, because each alone would wait as long for the lock.
    """
    reads = [operation for operation in group if not operation.writes]
    if len(reads) == len(group):
        _fail(path, group, error)
        return
    _fail(path, [operation for operation in group if operation.writes], error)
    if reads:
        _run_group(connection, path, reads)


def _fail(path: Path, group: Sequence[_Operation], error: Exception) -> None:
    failure = store_error(path, error) if isinstance(error, sqlite3.Error) else error
    log.warning("%s", failure)
    for operation in group:
        operation.failure = failure


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        with contextlib.suppress(sqlite3.Error):  # the failure that led here is the one to report
            connection.execute("ROLLBACK")


def _run_operation(connection: sqlite3.Connection, path: Path, operation: _Operation) -> None:
    """Run one operation in a savepoint.

    Its own error fails the operation alone. An error that made SQLite roll back the whole transaction (disk full, I/O)
    is raised, because the other operations were undone with it.
    """
    connection.execute("SAVEPOINT operation")
    operation.failure = None  # this may be a second try
    try:
        operation.result = operation.work(connection)
    except Exception as error:
        if not connection.in_transaction:
            raise
        connection.execute("ROLLBACK TO operation")
        operation.failure = store_error(path, error) if isinstance(error, sqlite3.Error) else error
    connection.execute("RELEASE operation")
