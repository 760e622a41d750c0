"""The deployed functions, in the tables function, revision, asked (requested replicas) and standing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import astuple

from rescoldo.model.function import Function, FunctionSpec, spec_from_json, spec_to_json
from rescoldo.model.names import FunctionId
from rescoldo.model.revision import KEPT_REVISIONS, Revision
from rescoldo.model.standing import PLAIN, Standing
from rescoldo.store.changes import Watchers
from rescoldo.store.sqlite.queries import load_queries
from rescoldo.store.sqlite.tables import Tables
from rescoldo.store.sqlite.writer import Writer

SQL = load_queries("functions")


class SqliteFunctions(Tables):
    """`Functions` in a database.

    SQLite reports that another process has committed, but not what; so watchers get a "look at all". This is rare for a
    database with a second copy: the keeper undoes what others change in its tables (keeper.py), and watchers hear
    nothing, as nothing has changed for them.
    """

    complete = True

    def __init__(self, writer: Writer) -> None:
        super().__init__(writer)
        self._watchers = Watchers()
        loop = asyncio.get_running_loop()

        def tell() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._watchers.note, None)

        writer.on_others = tell

    def watch(self) -> AsyncIterator[FunctionId | None]:
        return self._watchers.add()

    async def functions(self) -> list[Function]:
        # rows become objects in the store's thread: 10,000 of them would block the event loop
        return await self._writer.read(lambda c: [_function(row) for row in c.execute(SQL["functions"])])

    async def function(self, function: FunctionId) -> Function | None:
        row = await self._writer.read(lambda c: c.execute(SQL["function"], (function,)).fetchone())
        return None if row is None else _function(row)

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
        await self._execute(SQL["delete_function"], (function,))

    async def requested_replicas(self, of: FunctionId | None = None) -> dict[FunctionId, int]:
        query, row = SQL["requested_replicas"], {"of": of}
        return await self._writer.read(lambda c: dict(c.execute(query, row).fetchall()))

    async def save_requested_replicas(self, function: FunctionId, replicas: int) -> None:
        if replicas:
            await self._execute(SQL["save_requested_replicas"], (function, replicas))
        else:
            await self._execute(SQL["delete_requested_replicas"], (function,))

    async def standings(self, of: FunctionId | None = None) -> dict[FunctionId, Standing]:
        def work(connection: sqlite3.Connection) -> dict[FunctionId, Standing]:
            rows = connection.execute(SQL["standings"], {"of": of})
            return {name: Standing(bool(paused), bool(untried), failure) for name, paused, untried, failure in rows}

        return await self._writer.read(work)

    async def save_standing(self, function: FunctionId, standing: Standing) -> None:
        await self._writer.write(lambda c: _save_standing(c, function, standing))


def _save_standing(connection: sqlite3.Connection, function: FunctionId, standing: Standing) -> None:
    if standing == PLAIN:
        connection.execute(SQL["delete_standing"], (function,))
    else:
        connection.execute(SQL["save_standing"], (function, *astuple(standing)))


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
