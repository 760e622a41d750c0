"""Control's grants for functions with `rescoldo.dev/max-strict: true`, whose holders outlive it (policy/grants.py)."""

from __future__ import annotations

import asyncio
import json
import secrets
from pathlib import Path

from rescoldo.durable import replace_text
from rescoldo.model.errors import StoreError
from rescoldo.model.names import FunctionId, RouteKey
from rescoldo.policy.grants import Grant, GrantBook

TOKEN_BYTES = 16


class KeptGrants:
    """A grant is answered once its holder is in `file`. Every method but `open` raises StoreError while the disk
    refuses; then nothing was granted that anybody knows of."""

    def __init__(self, file: Path, book: GrantBook) -> None:
        self._file = file
        self._book = book
        self._holders: dict[FunctionId, str] = {}
        self._saving = asyncio.Lock()

    @classmethod
    def open(cls, file: Path) -> KeptGrants:
        """Read the holders; a file that is missing or damaged counts as lost, so nobody is granted anything at first.
        Raises StoreError."""
        try:
            found = json.loads(file.read_text())
            holders = {FunctionId(RouteKey(str(name))): str(sender) for name, sender in found.items()}
        except (FileNotFoundError, ValueError, AttributeError):
            holders = None
        except OSError as error:
            raise StoreError(f"{file}: {error.strerror}: check the folder's owner and mode") from error
        made = cls(file, GrantBook(_now(), holders))
        made._holders = holders or {}
        if holders is None:
            made._write({})
        return made

    async def grant(self, function: FunctionId, sender: str) -> Grant:
        """See `Control.grant`."""
        async with self._saving:
            granted = self._book.grant(function, sender, secrets.token_urlsafe(TOKEN_BYTES), _now())
            await self._save(function)
            return granted

    async def give_back(self, function: FunctionId, sender: str, token: str) -> None:
        """See `Control.give_back`."""
        async with self._saving:
            self._book.give_back(function, sender, token)
            await self._save(function)

    async def _save(self, function: FunctionId) -> None:
        if not self._book.unsaved(function):
            return
        holder = self._book.holder(function)
        holders = {**self._holders, function: holder}
        if not holder:
            del holders[function]
        await asyncio.to_thread(self._write, holders)
        self._holders = holders
        self._book.note_saved(function, holder)

    def _write(self, holders: dict[FunctionId, str]) -> None:
        try:
            replace_text(self._file, json.dumps(holders))
        except OSError as error:
            raise StoreError(f"{self._file}: {error.strerror}: free some space") from error


def _now() -> float:
    return asyncio.get_running_loop().time()
