"""A `Store` and `Secrets` that keep their data in memory alone, for tests and trials."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence, Set
from dataclasses import dataclass, field, replace

from rescoldo.model.deployed import NEW, Deployed
from rescoldo.model.errors import Superseded
from rescoldo.model.names import FunctionId
from rescoldo.store.changes import Watchers
from rescoldo.store.documents import DocumentFunctions
from rescoldo.store.protocol import Bundle, Condition, MinuteUsage, Namespace
from rescoldo.store.usage import UsageKey, key_of, sum_of


@dataclass
class _Shared:
    """What several `MemoryDocuments` share."""

    documents: dict[FunctionId, Deployed] = field(default_factory=dict)
    last_version: int = NEW
    users: list[Watchers] = field(default_factory=list)


class MemoryDocuments:
    """`Documents` in memory. One that is made `beside` another shares its data, as clients share a server."""

    complete = True

    def __init__(self, beside: MemoryDocuments | None = None) -> None:
        self._shared: _Shared = _Shared() if beside is None else beside._shared
        self._watchers = Watchers()
        self._shared.users.append(self._watchers)

    async def all(self) -> list[Deployed]:
        return [self._shared.documents[key] for key in sorted(self._shared.documents)]

    async def get(self, function: FunctionId) -> Deployed | None:
        return self._shared.documents.get(function)

    async def put(self, deployed: Deployed) -> int:
        found = self._shared.documents.get(deployed.id)
        if deployed.version != (NEW if found is None else found.version):
            raise Superseded
        self._shared.last_version += 1
        self._shared.documents[deployed.id] = replace(deployed, version=self._shared.last_version)
        self._tell(deployed.id)
        return self._shared.last_version

    async def delete(self, function: FunctionId) -> None:
        if self._shared.documents.pop(function, None) is not None:
            self._tell(function)

    def watch(self) -> AsyncIterator[FunctionId | None]:
        return self._watchers.add()

    def close(self) -> None:
        """End the watchers' iterations; nothing else is open."""
        self._watchers.close()

    @property
    def shared(self) -> dict[FunctionId, Deployed]:
        """The documents as they are now; a change made here is told to nobody."""
        return self._shared.documents

    def remind(self, function: FunctionId) -> None:
        """Tell our watchers of a document that did not change."""
        self._watchers.note(function)

    def lose_sight(self) -> None:
        """Tell our watchers that any document may have changed, as after a lost connection."""
        self._watchers.note(None)

    def _tell(self, function: FunctionId) -> None:
        for user in self._shared.users:
            user.note(function)


class MemoryFunctions(DocumentFunctions):
    """`Functions` over documents in memory."""

    def __init__(self, documents: MemoryDocuments | None = None) -> None:
        self.documents = MemoryDocuments() if documents is None else documents
        super().__init__(self.documents)

    def beside(self) -> MemoryFunctions:
        """Return others' view of the same functions, as processes share a database."""
        return MemoryFunctions(MemoryDocuments(beside=self.documents))

    async def close(self) -> None:
        """End the watchers' iterations; nothing else is open."""
        self.documents.close()


class MemoryBundleIndex:
    """`BundleIndex` in memory."""

    def __init__(self) -> None:
        self._bundles: dict[str, Bundle] = {}  # by image
        self._gids: dict[str, int] = {}  # by digest
        self._last_gid = 0

    async def bundles(self) -> list[Bundle]:
        return [self._bundles[image] for image in sorted(self._bundles)]

    async def save_bundle(self, image: str, digest: str, size: int, now: float) -> Bundle:
        if digest not in self._gids:
            self._last_gid += 1
            self._gids[digest] = self._last_gid
        for other, kept in self._bundles.items():
            if kept.digest == digest:
                self._bundles[other] = replace(kept, size=size)
        self._bundles[image] = Bundle(image, digest, size, now, self._gids[digest])
        return self._bundles[image]

    async def delete_bundle(self, digest: str) -> None:
        self._gids.pop(digest, None)
        self._bundles = {image: kept for image, kept in self._bundles.items() if kept.digest != digest}


class MemoryNamespaces:
    """`NamespaceStore` in memory."""

    def __init__(self) -> None:
        self._namespaces: dict[str, Namespace] = {}

    async def namespaces(self) -> list[Namespace]:
        return [self._namespaces[name] for name in sorted(self._namespaces)]

    async def save_namespace(self, namespace: Namespace) -> None:
        self._namespaces[namespace.name] = namespace

    async def delete_namespace(self, name: str) -> None:
        self._namespaces.pop(name, None)


class MemoryUsage:
    """`UsageStore` in memory; `names` returns the deployed functions."""

    def __init__(self, names: Callable[[], Set[FunctionId]]) -> None:
        self._names = names
        self._usage: dict[UsageKey, MinuteUsage] = {}
        self._invocations: Counter[FunctionId] = Counter()
        self._batches: dict[str, int] = {}  # number of the last one, by sender

    async def add_batch(self, sender: str, number: int, rows: Sequence[MinuteUsage], minute: int) -> bool:
        if self._batches.get(sender, 0) >= number:
            return False
        self._batches[sender] = number
        await self.add_usage(rows)
        return True

    async def add_usage(self, rows: Iterable[MinuteUsage]) -> None:
        for row in rows:
            self._add(row)
            self._invocations[row.function] += row.calls

    def _add(self, row: MinuteUsage) -> None:
        key = key_of(row)
        kept = self._usage.get(key)
        self._usage[key] = row if kept is None else sum_of(kept, row)

    async def prune_usage(self, before_minute: int, hours_before: int) -> None:
        kept, self._usage = self._usage, {}
        for row in kept.values():
            if row.minute >= before_minute:
                self._add(replace(row, minute=row.minute - row.minute % 60) if row.minute < hours_before else row)
        known = self._names() | {row.function for row in self._usage.values()}
        self._invocations = Counter({name: calls for name, calls in self._invocations.items() if name in known})

    async def usage(self, function: FunctionId | None, since_minute: int) -> list[MinuteUsage]:
        return [
            self._usage[key] for key in sorted(self._usage) if key[1] >= since_minute and function in (None, key[0])
        ]

    async def invocations(self) -> dict[FunctionId, int]:
        return dict(self._invocations)


class MemoryStore(MemoryFunctions, MemoryBundleIndex, MemoryNamespaces, MemoryUsage):
    """Keeps the same promises as `SqliteStore`, except those about the disk."""

    def __init__(self, documents: MemoryDocuments | None = None) -> None:
        MemoryFunctions.__init__(self, documents)
        MemoryBundleIndex.__init__(self)
        MemoryNamespaces.__init__(self)
        MemoryUsage.__init__(self, self.documents.shared.keys)

    @property
    def condition(self) -> Condition:
        return Condition()


class MemorySecrets:
    """Keeps the same promises as `SecretFiles`, except those about the disk."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, str], bytes] = {}  # by namespace and name

    async def names(self, namespace: str) -> list[str]:
        return sorted(name for space, name in self.values if space == namespace)

    async def bring(self, namespace: str, names: Collection[str]) -> set[str]:
        return {name for name in names if (namespace, name) in self.values}

    async def save(self, namespace: str, name: str, value: bytes) -> None:
        self.values[namespace, name] = value

    async def delete(self, namespace: str, name: str) -> None:
        self.values.pop((namespace, name), None)

    async def delete_namespace(self, namespace: str) -> None:
        self.values = {key: value for key, value in self.values.items() if key[0] != namespace}
