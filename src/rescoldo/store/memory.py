"""A `Store` and `Secrets` that keep their data in memory alone, for tests and trials."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Set
from dataclasses import dataclass, field, replace

from rescoldo.model.function import Function
from rescoldo.model.names import FunctionId
from rescoldo.model.revision import KEPT_REVISIONS, Revision
from rescoldo.model.standing import PLAIN, Standing
from rescoldo.store.changes import Watchers
from rescoldo.store.protocol import Bundle, Condition, MinuteUsage, Namespace


@dataclass
class _Deployed:
    """The functions that several `MemoryFunctions` share."""

    functions: dict[FunctionId, Function] = field(default_factory=dict)
    revisions: dict[FunctionId, dict[int, Revision]] = field(default_factory=dict)
    requested: dict[FunctionId, int] = field(default_factory=dict)
    standings: dict[FunctionId, Standing] = field(default_factory=dict)
    users: list[MemoryFunctions] = field(default_factory=list)


class MemoryFunctions:
    """`Functions` in memory. One that is made `beside` another shares its data, as processes share a database."""

    def __init__(self, beside: MemoryFunctions | None = None) -> None:
        self._deployed: _Deployed = _Deployed() if beside is None else beside._deployed
        self._deployed.users.append(self)
        self._watchers = Watchers()

    async def functions(self) -> list[Function]:
        return [self._deployed.functions[key] for key in sorted(self._deployed.functions)]

    async def function(self, function: FunctionId) -> Function | None:
        return self._deployed.functions.get(function)

    async def save_function(
        self, function: Function, *, keep: int = KEPT_REVISIONS, standing: Standing | None = None
    ) -> None:
        before = self._deployed.functions.get(function.id)
        self._deployed.functions[function.id] = function
        if before is not None and before.revision != function.revision:
            past = Revision(before.revision, before.spec, before.digest, before.revised_at)
            self._keep(function.id, past, keep - 1)
        if standing is not None:
            await self.save_standing(function.id, standing)
        self._tell_others(function.id)

    async def save_failed(self, function: FunctionId, revision: Revision, *, keep: int = KEPT_REVISIONS) -> None:
        self._keep(function, revision, keep)
        self._tell_others(function)

    async def revisions(self, function: FunctionId) -> list[Revision]:
        kept = self._deployed.revisions.get(function, {})
        return [kept[number] for number in sorted(kept, reverse=True)]

    async def revision_digests(self) -> set[str]:
        kept = self._deployed.revisions.values()
        return {one.digest for revisions in kept for one in revisions.values() if not one.failure}

    async def delete_function(self, function: FunctionId) -> None:
        self._deployed.functions.pop(function, None)
        self._deployed.revisions.pop(function, None)
        self._deployed.requested.pop(function, None)
        self._deployed.standings.pop(function, None)
        self._tell_others(function)

    async def requested_replicas(self) -> dict[FunctionId, int]:
        return dict(self._deployed.requested)

    async def save_requested_replicas(self, function: FunctionId, replicas: int) -> None:
        self._deployed.requested.pop(function, None)
        if replicas and function in self._deployed.functions:
            self._deployed.requested[function] = replicas
        self._tell_others(function)

    async def standings(self) -> dict[FunctionId, Standing]:
        return dict(self._deployed.standings)

    async def save_standing(self, function: FunctionId, standing: Standing) -> None:
        self._deployed.standings.pop(function, None)
        if standing != PLAIN and function in self._deployed.functions:
            self._deployed.standings[function] = standing
        self._tell_others(function)

    def watch(self) -> AsyncIterator[FunctionId | None]:
        return self._watchers.add()

    async def close(self) -> None:
        """End the watchers' iterations; nothing else is open."""
        self._watchers.close()

    def _keep(self, function: FunctionId, revision: Revision, most: int) -> None:
        kept = self._deployed.revisions.setdefault(function, {})
        kept[revision.number] = revision
        # failed revisions and those that served have a limit each
        alike = sorted(number for number, one in kept.items() if bool(one.failure) == bool(revision.failure))
        for number in alike[: max(0, len(alike) - most)]:
            del kept[number]

    def _tell_others(self, function: FunctionId) -> None:
        for user in self._deployed.users:
            if user is not self:
                user._watchers.note(function)


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
        self._usage: dict[tuple[FunctionId, int, int, bool], MinuteUsage] = {}
        self._invocations: Counter[FunctionId] = Counter()

    async def add_usage(self, rows: Iterable[MinuteUsage]) -> None:
        for row in rows:
            self._add(row)
            self._invocations[row.function] += row.calls

    def _add(self, row: MinuteUsage) -> None:
        key = (row.function, row.minute, row.status, row.cold)
        kept = self._usage.get(key)
        self._usage[key] = row if kept is None else _sum(kept, row)

    async def prune_usage(self, before_minute: int, hours_before: int) -> None:
        kept, self._usage = self._usage, {}
        for row in kept.values():
            if row.minute >= before_minute:
                self._add(replace(row, minute=row.minute - row.minute % 60) if row.minute < hours_before else row)
        known = self._names() | {row.function for row in self._usage.values()}
        self._invocations = Counter({name: calls for name, calls in self._invocations.items() if name in known})

    async def usage(self, function: FunctionId | None, since_minute: int) -> list[MinuteUsage]:
        return [
            self._usage[key]
            for key in sorted(self._usage)
            if key[1] >= since_minute and function in (None, key[0])
        ]

    async def invocations(self) -> dict[FunctionId, int]:
        return dict(self._invocations)


class MemoryStore(MemoryFunctions, MemoryBundleIndex, MemoryNamespaces, MemoryUsage):
    """Keeps the same promises as `SqliteStore`, except those about the disk."""

    def __init__(self) -> None:
        MemoryFunctions.__init__(self)
        MemoryBundleIndex.__init__(self)
        MemoryNamespaces.__init__(self)
        MemoryUsage.__init__(self, self._deployed.functions.keys)

    @property
    def condition(self) -> Condition:
        return Condition()


class MemorySecrets:
    """Keeps the same promises as `SecretFiles`, except those about the disk."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, str], bytes] = {}  # by namespace and name

    async def names(self, namespace: str) -> list[str]:
        return sorted(name for space, name in self.values if space == namespace)

    async def save(self, namespace: str, name: str, value: bytes) -> None:
        self.values[namespace, name] = value

    async def delete(self, namespace: str, name: str) -> None:
        self.values.pop((namespace, name), None)

    async def delete_namespace(self, namespace: str) -> None:
        self.values = {key: value for key, value in self.values.items() if key[0] != namespace}


def _sum(kept: MinuteUsage, row: MinuteUsage) -> MinuteUsage:
    return replace(
        kept,
        calls=kept.calls + row.calls,
        queue_ms=kept.queue_ms + row.queue_ms,
        run_ms=kept.run_ms + row.run_ms,
        bytes_in=kept.bytes_in + row.bytes_in,
        bytes_out=kept.bytes_out + row.bytes_out,
    )
