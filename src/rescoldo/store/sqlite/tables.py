"""The base of the parts of `SqliteStore`: tables of one database, written by one thread."""

from __future__ import annotations

from typing import Any

from rescoldo.store.sqlite.writer import Writer


class Tables:
    """The tables of one subject. Every write is on disk before its method returns."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    async def _execute(self, statement: str, row: tuple[Any, ...]) -> None:
        await self._writer.write(lambda c: c.execute(statement, row) and None)
