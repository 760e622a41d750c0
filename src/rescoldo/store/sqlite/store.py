"""SqliteStore: the store of one machine, in one file below the data directory."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import astuple
from functools import partial
from pathlib import Path
from typing import Any

from rescoldo.model.function import Function, FunctionSpec, spec_from_json, spec_to_json
from rescoldo.model.names import FunctionId
from rescoldo.model.revision import KEPT_REVISIONS, Revision
from rescoldo.model.standing import PLAIN, Standing
from rescoldo.store.protocol import Bundle, Condition, MinuteUsage, Namespace
from rescoldo.store.sqlite.queries import load_queries, load_schema
from rescoldo.store.sqlite.writer import Writer

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
        cls,
        path: Path,
        *,
        busy_timeout: float = BUSY_TIMEOUT,
        schema: Sequence[str] | None = None,
        copy: Path | None = None,
    ) -> SqliteStore:
        """Open or create the database at `path`, migrating an older schema; raises StoreError, NewerSchema.

        `busy_timeout` is in seconds; `schema` replaces the shipped migrations; `copy` as for Writer.
        """
        writer = Writer(path, load_schema() if schema is None else schema, busy_timeout, copy)
        await writer.open()
        return cls(writer)

    async def close(self) -> None:
        await self._writer.close()

    @property
    def condition(self) -> Condition:
        return self._writer.condition

    async def functions(self) -> list[Function]:
        # rows become objects in the store's thread: 10,000 of them would hold the event loop up
        return await self._writer.read(lambda c: [_function(row) for row in c.execute(SQL["functions"])])

    async def save_function(
        self, function: Function, *, keep: int = KEPT_REVISIONS, standing: Standing | None = None
    ) -> None:
        traffic = json.dumps(dict(function.traffic))
        row = (
            function.id, _spec_text(function.spec), function.digest, function.created_at, function.revision,
            function.revised_at, function.generation, traffic,
        )

        def work(connection: sqlite3.Connection) -> None:
            if connection.execute(SQL["keep_current"], (function.id, function.revision)).rowcount:
                connection.execute(SQL["prune_revisions"], (function.id, False, keep - 1))
            connection.execute(SQL["save_function"], row)
            if standing is not None:
                _save_standing(connection, function.id, standing)

        await self._writer.write(work)

    async def save_failed(self, function: FunctionId, revision: Revision, *, keep: int = KEPT_REVISIONS) -> None:
        spec = _spec_text(revision.spec)
        row = (function, revision.number, spec, revision.digest, revision.created_at, revision.failure)

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(SQL["save_revision"], row)
            connection.execute(SQL["prune_revisions"], (function, True, keep))

        await self._writer.write(work)

    async def revisions(self, function: FunctionId) -> list[Revision]:
        return await self._writer.read(lambda c: [_revision(row) for row in c.execute(SQL["revisions"], (function,))])

    async def revision_digests(self) -> set[str]:
        return await self._writer.read(lambda c: {digest for (digest,) in c.execute(SQL["revision_digests"])})

    async def delete_function(self, function: FunctionId) -> None:
        await self._execute("delete_function", (function,))

    async def requested_replicas(self) -> dict[FunctionId, int]:
        return await self._writer.read(lambda c: dict(c.execute(SQL["requested_replicas"]).fetchall()))

    async def save_requested_replicas(self, function: FunctionId, replicas: int) -> None:
        if replicas:
            await self._execute("save_requested_replicas", (function, replicas))
        else:
            await self._execute("delete_requested_replicas", (function,))

    async def standings(self) -> dict[FunctionId, Standing]:
        def work(connection: sqlite3.Connection) -> dict[FunctionId, Standing]:
            rows = connection.execute(SQL["standings"])
            return {name: Standing(bool(paused), bool(untried), failure) for name, paused, untried, failure in rows}

        return await self._writer.read(work)

    async def save_standing(self, function: FunctionId, standing: Standing) -> None:
        await self._writer.write(lambda c: _save_standing(c, function, standing))

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

    async def prune_usage(self, before_minute: int, hours_before: int) -> None:
        await self._execute("prune_usage", (before_minute,))
        # a minute at a time, so that other writes get their turn
        minute: int | None = before_minute - 1
        while minute is not None:
            minute = await self._writer.write(partial(_add_to_hour, after=minute, before=hours_before))
        await self._writer.write(_Forgetting())

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


class _Forgetting:
    """Forgets the totals of removed functions of which nothing else is kept. It is done twice, and the second copy has
    no counts by minute that would tell which those are."""

    def __init__(self) -> None:
        self._names: list[tuple[str]] | None = None

    def __call__(self, connection: sqlite3.Connection) -> None:
        if self._names is None:
            self._names = connection.execute(SQL["forgotten"]).fetchall()
        connection.executemany(SQL["delete_invocations"], self._names)


def _save_standing(connection: sqlite3.Connection, function: FunctionId, standing: Standing) -> None:
    if standing == PLAIN:
        connection.execute(SQL["delete_standing"], (function,))
    else:
        connection.execute(SQL["save_standing"], (function, *astuple(standing)))


def _add_to_hour(connection: sqlite3.Connection, after: int, before: int) -> int | None:
    """Add the first minute after `after` and before `before` to its hour, of which it is not the first; return it, or
    None where there is none."""
    minute: int | None
    (minute,) = connection.execute(SQL["next_minute"], (after, before)).fetchone()
    if minute is not None:
        connection.execute(SQL["add_to_hour"], (minute,))
        connection.execute(SQL["delete_minute"], (minute,))
    return minute


def _function(row: tuple[str, str, float, int, float, int, str]) -> Function:
    spec, digest, created_at, revision, revised_at, generation, traffic = row
    shares = {} if traffic == "{}" else {int(number): percent for number, percent in json.loads(traffic).items()}
    return Function(
        spec_from_json(json.loads(spec)), digest, created_at, revision, revised_at, generation, shares
    )


def _revision(row: tuple[int, str, str, float, str]) -> Revision:
    number, spec, digest, created_at, failure = row
    return Revision(number, spec_from_json(json.loads(spec)), digest, created_at, failure)


def _spec_text(spec: FunctionSpec) -> str:
    return json.dumps(spec_to_json(spec), separators=(",", ":"))


def _minute_usage(row: tuple[Any, ...]) -> MinuteUsage:
    function, minute, status, cold, *sums = row
    return MinuteUsage(function, minute, status, bool(cold), *sums)
