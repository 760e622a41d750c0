"""Functions' secrets on a worker: control has them, and the node reads the values of those that functions here name."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Collection, Mapping

from rescoldo.link.protocol import Control
from rescoldo.store.protocol import Secrets


class JoinedSecrets:
    """Writes values into the worker's own `Secrets`, which should be in memory, whenever they are other ones."""

    def __init__(self, control: Control, own: Secrets) -> None:
        self._control = control
        self._own = own
        self._written: dict[tuple[str, str], bytes] = {}  # sha256 of each value, by namespace and name
        self._keeping = asyncio.Lock()  # what is noted as written is what was written last

    async def keep(self, namespace: str, values: Mapping[str, bytes]) -> None:
        """Let the node find these values. Raises StoreError."""
        async with self._keeping:
            for name, value in values.items():
                mark = hashlib.sha256(value).digest()
                if self._written.get((namespace, name)) != mark:
                    await self._own.save(namespace, name, value)
                    self._written[namespace, name] = mark

    # -- Secrets, as far as deployments need them: control's own API changes secrets

    async def bring(self, namespace: str, names: Collection[str]) -> set[str]:
        found = await self._control.secrets(names) if names else {}
        await self.keep(namespace, found)
        return set(found)

    async def names(self, namespace: str) -> list[str]:
        return await self._own.names(namespace)

    async def save(self, namespace: str, name: str, value: bytes) -> None:
        await self.keep(namespace, {name: value})

    async def delete(self, namespace: str, name: str) -> None:
        self._written.pop((namespace, name), None)
        await self._own.delete(namespace, name)

    async def delete_namespace(self, namespace: str) -> None:
        self._written.clear()
        await self._own.delete_namespace(namespace)
