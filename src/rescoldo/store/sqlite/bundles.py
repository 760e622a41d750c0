"""The index of bundles by image name, in the tables image and bundle."""

from __future__ import annotations

import sqlite3

from rescoldo.store.protocol import Bundle
from rescoldo.store.sqlite.queries import load_queries
from rescoldo.store.sqlite.tables import Tables

SQL = load_queries("bundles")


class SqliteBundleIndex(Tables):
    """`BundleIndex` in a database."""

    async def bundles(self) -> list[Bundle]:
        return await self._writer.read(lambda c: [Bundle(*row) for row in c.execute(SQL["bundles"])])

    async def save_bundle(self, image: str, digest: str, size: int, now: float) -> Bundle:
        def work(connection: sqlite3.Connection) -> Bundle:
            connection.execute(SQL["save_bundle"], (digest, size))
            connection.execute(SQL["save_image"], (image, digest, now))
            return Bundle(*connection.execute(SQL["bundle_of_image"], (image,)).fetchone())

        return await self._writer.write(work)

    async def delete_bundle(self, digest: str) -> None:
        await self._execute(SQL["delete_bundle"], (digest,))
