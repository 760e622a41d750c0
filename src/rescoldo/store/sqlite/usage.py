"""The counts of functions' calls: by minute, later by hour (table usage), and in total (table invocation)."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence, Set
from dataclasses import astuple
from functools import partial
from typing import Any

from rescoldo.model.names import FunctionId
from rescoldo.store.protocol import MinuteUsage
from rescoldo.store.sqlite.queries import load_queries
from rescoldo.store.sqlite.tables import Tables

SQL = load_queries("usage")


class SqliteUsage(Tables):
    """`UsageStore` in a database."""

    async def add_usage(self, rows: Iterable[MinuteUsage]) -> None:
        await self._writer.write(partial(_add, rows=tuple(rows)))

    async def add_batch(self, sender: str, number: int, rows: Sequence[MinuteUsage], minute: int) -> bool:
        """See `Batches`."""

        def work(connection: sqlite3.Connection) -> bool:
            found = connection.execute(SQL["batch"], (sender,)).fetchone()
            if found is not None and found[0] >= number:
                return False
            _add(connection, rows)
            connection.execute(SQL["save_batch"], (sender, number, minute))
            return True

        return await self._writer.write(work)

    async def prune_usage(self, before_minute: int, hours_before: int) -> None:
        await self._prune_rows(before_minute, hours_before)
        await self._writer.write(_Forgetting())

    async def prune_usage_but_of(self, functions: Set[FunctionId], before_minute: int, hours_before: int) -> None:
        """Like `prune_usage`, where `functions` are those that are deployed: they are not in this database."""
        await self._prune_rows(before_minute, hours_before)
        await self._execute(SQL["delete_batches"], (before_minute,))
        await self._writer.write(_Forgetting(functions))

    async def _prune_rows(self, before_minute: int, hours_before: int) -> None:
        await self._execute(SQL["prune_usage"], (before_minute,))
        # one write for each minute (0.13 s with 1,000 busy functions), so that other writes get their turn: an
        # hour in one transaction took 1.5 to 4.3 s
        minute: int | None = before_minute - 1
        while minute is not None:
            minute = await self._writer.write(partial(_add_to_hour, after=minute, before=hours_before))

    async def usage(self, function: FunctionId | None, since_minute: int) -> list[MinuteUsage]:
        def work(connection: sqlite3.Connection) -> list[MinuteUsage]:
            if function is None:
                rows = connection.execute(SQL["usage"], (since_minute,))
            else:
                rows = connection.execute(SQL["usage_of_function"], (since_minute, function))
            return [_minute_usage(row) for row in rows]

        return await self._writer.read(work)

    async def invocations(self) -> dict[FunctionId, int]:
        return await self._writer.read(lambda c: dict(c.execute(SQL["invocations"]).fetchall()))


class _Forgetting:
    """Forgets the totals of removed functions that have no rows left.

    The write runs twice, and the second copy has no counts by minute: so the first run finds the names for both.
    """

    def __init__(self, deployed: Set[FunctionId] | None = None) -> None:
        """`deployed`: None means those in this database."""
        self._deployed = deployed
        self._names: list[tuple[str]] | None = None

    def __call__(self, connection: sqlite3.Connection) -> None:
        if self._names is None:
            self._names = self._find(connection)
        connection.executemany(SQL["delete_invocations"], self._names)

    def _find(self, connection: sqlite3.Connection) -> list[tuple[str]]:
        if self._deployed is None:
            return connection.execute(SQL["forgotten"]).fetchall()
        found: list[tuple[str]] = connection.execute(SQL["without_usage"]).fetchall()
        return [row for row in found if row[0] not in self._deployed]


def _add(connection: sqlite3.Connection, rows: Sequence[MinuteUsage]) -> None:
    calls: Counter[str] = Counter()
    for row in rows:
        calls[row.function] += row.calls
    connection.executemany(SQL["add_usage"], [astuple(row) for row in rows])
    connection.executemany(SQL["add_invocations"], calls.items())


def _add_to_hour(connection: sqlite3.Connection, after: int, before: int) -> int | None:
    """Merge the first minute between `after` and `before` that does not begin an hour into its hour.

    Return that minute; None if there is none.
    """
    minute: int | None
    (minute,) = connection.execute(SQL["next_minute"], (after, before)).fetchone()
    if minute is not None:
        connection.execute(SQL["add_to_hour"], (minute,))
        connection.execute(SQL["delete_minute"], (minute,))
    return minute


def _minute_usage(row: tuple[Any, ...]) -> MinuteUsage:
    function, minute, status, cold, *sums = row
    return MinuteUsage(function, minute, status, bool(cold), *sums)
