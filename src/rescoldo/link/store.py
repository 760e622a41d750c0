"""A worker's `Store`: functions and counts are control's, and there is one namespace."""

from __future__ import annotations

from collections.abc import Iterable

from rescoldo.link.counts import CountsOutbox
from rescoldo.link.documents import JoinedDocuments
from rescoldo.model.errors import InvalidInput, StoreError
from rescoldo.model.names import FunctionId
from rescoldo.store.documents import DocumentFunctions
from rescoldo.store.memory import MemoryBundleIndex
from rescoldo.store.protocol import Condition, MinuteUsage, Namespace

BELONGS_TO_CONTROL = "this is a worker of a cluster: ask its control"


class JoinedStore(DocumentFunctions, MemoryBundleIndex):
    """Names of images are control's, too: a worker remembers those that it deploys."""

    def __init__(self, documents: JoinedDocuments, outbox: CountsOutbox, namespace: str) -> None:
        DocumentFunctions.__init__(self, documents)
        MemoryBundleIndex.__init__(self)
        self._joined = documents
        self._outbox = outbox
        self._namespace = namespace

    @property
    def condition(self) -> Condition:
        return Condition()

    async def close(self) -> None:
        self._joined.close()

    async def revision_digests(self) -> set[str]:
        """Besides, the bundles of functions that are on their way into the fleet, which it does not know yet."""
        return await super().revision_digests() | self._joined.digests()

    # -- namespaces

    async def namespaces(self) -> list[Namespace]:
        return [Namespace(self._namespace, {}, {})]

    async def save_namespace(self, namespace: Namespace) -> None:
        raise InvalidInput(BELONGS_TO_CONTROL)

    async def delete_namespace(self, name: str) -> None:
        raise InvalidInput(BELONGS_TO_CONTROL)

    # -- usage: control has the sums

    async def add_usage(self, rows: Iterable[MinuteUsage]) -> None:
        try:
            self._outbox.add(rows)
        except OSError as error:
            raise StoreError(f"counts cannot be written: {error}") from error

    async def prune_usage(self, before_minute: int, hours_before: int) -> None:
        """Nothing is kept here."""

    async def usage(self, function: FunctionId | None, since_minute: int) -> list[MinuteUsage]:
        return []

    async def invocations(self) -> dict[FunctionId, int]:
        return {}
