"""Namespaces that users created, in the table namespace."""

from __future__ import annotations

import json
import sqlite3

from rescoldo.store.protocol import Namespace
from rescoldo.store.sqlite.queries import load_queries
from rescoldo.store.sqlite.tables import Tables

SQL = load_queries("namespaces")


class SqliteNamespaces(Tables):
    """`NamespaceStore` in a database."""

    async def namespaces(self) -> list[Namespace]:
        def work(connection: sqlite3.Connection) -> list[Namespace]:
            rows = connection.execute(SQL["namespaces"])
            return [Namespace(name, json.loads(labels), json.loads(notes)) for name, labels, notes in rows]

        return await self._writer.read(work)

    async def save_namespace(self, namespace: Namespace) -> None:
        labels, notes = json.dumps(dict(namespace.labels)), json.dumps(dict(namespace.annotations))
        await self._execute(SQL["save_namespace"], (namespace.name, labels, notes))

    async def delete_namespace(self, name: str) -> None:
        await self._execute(SQL["delete_namespace"], (name,))
