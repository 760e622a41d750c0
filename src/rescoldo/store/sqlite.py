"""SqliteStore: the store of one machine, in one file below the data directory."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

from rescoldo.model.function import Function, spec_from_json, spec_to_json
from rescoldo.model.names import FunctionId
from rescoldo.store.protocol import Bundle, MinuteUsage, Namespace
from rescoldo.store.queries import load_queries, load_schema
from rescoldo.store.writer import Writer

BUSY_TIMEOUT = 5.0  # seconds to wait for another process (a backup, a curious person) that holds the file
SQL = load_queries()


class SqliteStore:
    """A `Store` in a SQLite file: every write is on disk before its method returns.

    Every method raises StoreError, which names the file and the remedy.
    """

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    @classmethod
    async def open(
        cls, path: Path, *, busy_timeout: float = BUSY_TIMEOUT, schema: Sequence[str] | None = None
    ) -> SqliteStore:
        """Open or create the database at `path`, migrating an older schema; raises StoreError, NewerSchema.

        `busy_timeout` is in seconds; `schema` replaces the shipped migrations.
        """
        writer = Writer(path, load_schema() if schema is None else schema, busy_timeout)
        await writer.open()
        return cls(writer)

    async def close(self) -> None:
        await self._writer.close()

    async def functions(self) -> list[Function]:
        # rows become objects in the store's thread: 10,000 of them would hold the event loop up
        return await self._writer.read(lambda c: [_function(row) for row in c.execute(SQL["functions"])])

    async def save_function(self, function: Function) -> None:
        spec = json.dumps(spec_to_json(function.spec), separators=(",", ":"))
        row = (function.id, spec, function.digest, function.created_at, function.revision)
        await self._execute("save_function", row)

    async def delete_function(self, function: FunctionId) -> None:
        await self._execute("delete_function", (function,))

    async def bundles(self) -> list[Bundle]:
        return await self._writer.read(lambda c: [Bundle(*row) for row in c.execute(SQL["bundles"])])

    async def save_bundle(self, image: str, digest: str, size: int, now: float) -> Bundle:
        def work(connection: sqlite3.Connection) -> Bundle:
            connection.execute(SQL["save_bundle"], (digest, size))
            connection.execute(SQL["save_image"], (image, digest, now))
            return Bundle(*connection.execute(SQL["bundle_of_image"], (image,)).fetchone())

        return await self._writer.write(work)

    async def delete_bundle(self, digest: str) -> None:
        await self._execute("delete_bundle", (digest,))

    async def namespaces(self) -> list[Namespace]:
        def work(connection: sqlite3.Connection) -> list[Namespace]:
            rows = connection.execute(SQL["namespaces"])
            return [Namespace(name, json.loads(labels), json.loads(notes)) for name, labels, notes in rows]

        return await self._writer.read(work)

    async def save_namespace(self, namespace: Namespace) -> None:
        labels, notes = json.dumps(dict(namespace.labels)), json.dumps(dict(namespace.annotations))
        await self._execute("save_namespace", (namespace.name, labels, notes))

    async def delete_namespace(self, name: str) -> None:
        await self._execute("delete_namespace", (name,))

    async def add_usage(self, rows: Iterable[MinuteUsage]) -> None:
        usage = [astuple(row) for row in rows]
        calls: Counter[str] = Counter()
        for function, _, _, _, count, *_ in usage:
            calls[function] += count

        def work(connection: sqlite3.Connection) -> None:
            connection.executemany(SQL["add_usage"], usage)
            connection.executemany(SQL["add_invocations"], calls.items())

        await self._writer.write(work)

    async def prune_usage(self, before_minute: int) -> None:
        await self._execute("prune_usage", (before_minute,))

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

    async def _execute(self, query: str, row: tuple[Any, ...]) -> None:
        await self._writer.write(lambda c: c.execute(SQL[query], row) and None)


def _function(row: tuple[str, str, float, int]) -> Function:
    spec, digest, created_at, revision = row
    return Function(spec_from_json(json.loads(spec)), digest, created_at, revision)


def _minute_usage(row: tuple[Any, ...]) -> MinuteUsage:
    function, minute, status, cold, *sums = row
    return MinuteUsage(function, minute, status, bool(cold), *sums)
