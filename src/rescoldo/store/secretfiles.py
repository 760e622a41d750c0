"""Functions' secrets in plain files that only the platform's user can read.

The files are not encrypted: a key stored beside them would protect nothing that mode 0600 does not, and a key stored
elsewhere would have to be entered at every start.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import threading
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TypeVar

from rescoldo.durable import sync_folder
from rescoldo.model.errors import StoreError

PARTIAL = ".new"  # no secret's name begins with a dot, so a crash's leftover is overwritten, never listed

T = TypeVar("T")


class SecretFiles:
    """`Secrets` in files FOLDER/NAMESPACE/NAME: 0600 in folders 0700, on disk before a method returns."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # all writes of a namespace use one temporary file; two at once would give a secret another one's value
        self._writing = threading.Lock()

    async def names(self, namespace: str) -> list[str]:
        return await self._run(lambda: _names(self._folder / namespace))

    async def bring(self, namespace: str, names: Collection[str]) -> set[str]:
        return set(names).intersection(await self.names(namespace))

    async def save(self, namespace: str, name: str, value: bytes) -> None:
        def work() -> None:
            for folder in (self._folder, self._folder / namespace):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                folder.chmod(0o700)
            with self._writing:
                _write(self._folder / namespace / name, value)
            sync_folder(self._folder)

        await self._run(work)

    async def delete(self, namespace: str, name: str) -> None:
        def work() -> None:
            (self._folder / namespace / name).unlink(missing_ok=True)
            with contextlib.suppress(FileNotFoundError):  # a namespace without secrets has no folder
                sync_folder(self._folder / namespace)

        await self._run(work)

    async def delete_namespace(self, namespace: str) -> None:
        def work() -> None:
            if (self._folder / namespace).exists():
                shutil.rmtree(self._folder / namespace)
                sync_folder(self._folder)

        await self._run(work)

    async def _run(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.to_thread(work)
        except OSError as error:
            raise StoreError(
                f"secrets in {self._folder}: {error.strerror}: check free space, owner and mode"
            ) from error


def _names(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    except FileNotFoundError:
        return []


def _write(path: Path, value: bytes) -> None:
    partial = path.with_name(PARTIAL)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        with os.fdopen(os.open(partial, flags, 0o600), "wb") as file:
            file.write(value)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)  # in one step, and only once the content is on disk
    finally:
        partial.unlink(missing_ok=True)
    sync_folder(path.parent)
