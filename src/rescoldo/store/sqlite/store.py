"""The store of one machine, in one file below the data directory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rescoldo.store.protocol import Condition
from rescoldo.store.sqlite.bundles import SqliteBundleIndex
from rescoldo.store.sqlite.functions import SqliteFunctions
from rescoldo.store.sqlite.namespaces import SqliteNamespaces
from rescoldo.store.sqlite.queries import load_schema
from rescoldo.store.sqlite.usage import SqliteUsage
from rescoldo.store.sqlite.writer import Writer

BUSY_TIMEOUT = 5.0  # seconds to wait for another process that holds the file (a backup, or somebody's sqlite3)


class SqliteStore(SqliteFunctions, SqliteBundleIndex, SqliteNamespaces, SqliteUsage):
    """A `Store` in a SQLite file: every write is on disk before its method returns.

    Every method raises StoreError, which names the file and the remedy.
    """

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
        self._watchers.close()

    @property
    def condition(self) -> Condition:
        return self._writer.condition
