"""Control's `Store`: functions are in the Kubernetes API, bundles' names and counts in a database on control's volume.

The volume may be lost. Then functions are still there, `rescoldo up` uploads their bundles again, and counts begin
anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rescoldo.cluster.documents import KubeDocuments
from rescoldo.model.errors import InvalidInput
from rescoldo.model.names import FunctionId
from rescoldo.store.documents import DocumentFunctions
from rescoldo.store.protocol import Bundle, Condition, MinuteUsage, Namespace
from rescoldo.store.sqlite.store import SqliteStore

NOT_HERE = (
    "the installation chooses the namespaces that hold functions: rescoldo kubernetes install --function-namespace NAME"
)


class ControlStore(DocumentFunctions):
    """Implements `Store` and `Batches`."""

    def __init__(self, documents: KubeDocuments, database: SqliteStore, namespaces: Iterable[str]) -> None:
        """`namespaces` are those that hold functions."""
        super().__init__(documents)
        self._kube = documents
        self._database = database
        self._namespaces = sorted(namespaces)

    @property
    def condition(self) -> Condition:
        return self._database.condition

    async def close(self) -> None:
        self._kube.close()
        await self._database.close()

    # -- namespaces

    async def namespaces(self) -> list[Namespace]:
        return [Namespace(name, {}, {}) for name in self._namespaces]

    async def save_namespace(self, namespace: Namespace) -> None:
        raise InvalidInput(NOT_HERE)

    async def delete_namespace(self, name: str) -> None:
        raise InvalidInput(NOT_HERE)

    # -- names of bundles

    async def bundles(self) -> list[Bundle]:
        return await self._database.bundles()

    async def save_bundle(self, image: str, digest: str, size: int, now: float) -> Bundle:
        return await self._database.save_bundle(image, digest, size, now)

    async def delete_bundle(self, digest: str) -> None:
        await self._database.delete_bundle(digest)

    # -- counts

    async def add_usage(self, rows: Iterable[MinuteUsage]) -> None:
        await self._database.add_usage(rows)

    async def add_batch(self, sender: str, number: int, rows: Sequence[MinuteUsage], minute: int) -> bool:
        return await self._database.add_batch(sender, number, rows, minute)

    async def prune_usage(self, before_minute: int, hours_before: int) -> None:
        deployed = {function.id for function in await self.functions()}
        await self._database.prune_usage_but_of(deployed, before_minute, hours_before)

    async def usage(self, function: FunctionId | None, since_minute: int) -> list[MinuteUsage]:
        return await self._database.usage(function, since_minute)

    async def invocations(self) -> dict[FunctionId, int]:
        return await self._database.invocations()
