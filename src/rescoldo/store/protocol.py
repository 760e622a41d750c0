"""What the controller keeps, by subject: the plug-points `Functions`, `BundleIndex`, `NamespaceStore`, `UsageStore`
and `Secrets`. A part of the controller names the subject it needs; `Store` is the first four in one.

`SqliteStore` (store/sqlite/store.py) and `SecretFiles` (store/secretfiles.py) are the real ones; `MemoryStore` and
`MemorySecrets` (store/memory.py) are the shipped fakes. They pass tests/contract/test_store.py, test_functions.py and
test_secrets.py. Every method raises StoreError when the disk does not let it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from rescoldo.model.function import Function
from rescoldo.model.names import FunctionId
from rescoldo.model.revision import KEPT_REVISIONS, Revision
from rescoldo.model.standing import Standing


@dataclass(frozen=True, slots=True)
class Bundle:
    """What an image name means here."""

    image: str
    digest: str
    size: int  # bytes of the upload
    created_at: float  # Unix seconds
    gid: int  # index of the group that may read it: unique for each digest, never reused


@dataclass(frozen=True, slots=True)
class Namespace:
    name: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class MinuteUsage:
    """Calls of one function in one minute that ended alike; long ago: in one hour."""

    function: FunctionId
    minute: int  # Unix minutes; of an hour its first
    status: int
    cold: bool
    calls: int
    queue_ms: int
    run_ms: int
    bytes_in: int
    bytes_out: int


@dataclass(frozen=True, slots=True)
class Condition:
    """How a database is, for people and for metrics."""

    problem: str = ""  # what does not work now, and what to do
    rewritten: int = 0  # how often it was written again since the controller started
    rewritten_at: float = 0.0  # Unix seconds
    reason: str = ""  # of the last time
    lost: str = ""  # what could not be written again then


class FunctionSource(Protocol):
    """What is deployed, as a controller reads it. It may come from elsewhere: then others change it, too."""

    async def functions(self) -> list[Function]:
        """All of them with their current revisions, sorted by id."""
        ...

    async def function(self, function: FunctionId) -> Function | None:
        """One of them; None where it is not deployed."""
        ...

    async def revisions(self, function: FunctionId) -> list[Revision]:
        """Past revisions and those that failed, the last first; the current one is not among them."""
        ...

    async def revision_digests(self) -> set[str]:
        """The bundles of all past revisions that have served: what a rollback may need."""
        ...

    async def requested_replicas(self) -> dict[FunctionId, int]:
        """How many instances users asked for, by function; a function without such a request is not among them."""
        ...

    async def standings(self) -> dict[FunctionId, Standing]:
        """How functions stand; a function that stands as every new one does is not among them."""
        ...

    def watch(self) -> AsyncIterator[FunctionId | None]:
        """Functions that others change from this call on: saved or removed, with all that belongs to them. None: look
        at all, as changes may have been missed, or the source cannot tell which. Read what is named anew: it may have
        changed again. The iteration ends when the source is closed; let go of the iterator to end it earlier.

        What was changed through this object itself is not among them, though None may come for no reason.
        """
        ...


class Functions(FunctionSource, Protocol):
    """What is deployed, as a controller keeps it."""

    async def save_function(
        self, function: Function, *, keep: int = KEPT_REVISIONS, standing: Standing | None = None
    ) -> None:
        """Insert or replace, by id, and with it how the function stands, unless that is None. A revision that is
        replaced by another becomes a past one; of those that have served the last `keep` stay, the current one
        included."""
        ...

    async def save_failed(self, function: FunctionId, revision: Revision, *, keep: int = KEPT_REVISIONS) -> None:
        """Note a revision of a deployed function that did not start; the last `keep` of these stay."""
        ...

    async def save_requested_replicas(self, function: FunctionId, replicas: int) -> None:
        """Note how many instances a user asked for; 0 forgets the request. Nothing is kept of a function that is not
        there."""
        ...

    async def save_standing(self, function: FunctionId, standing: Standing) -> None:
        """Note how a function stands. Nothing is kept of one that is not there."""
        ...

    async def delete_function(self, function: FunctionId) -> None:
        """Forget a function, its revisions, its requested replicas and its standing."""
        ...


class BundleIndex(Protocol):
    """What image names mean."""

    async def bundles(self) -> list[Bundle]:
        """All of them, sorted by image name."""
        ...

    async def save_bundle(self, image: str, digest: str, size: int, now: float) -> Bundle:
        """Let `image` mean `digest` from now on; a digest seen before keeps its gid."""
        ...

    async def delete_bundle(self, digest: str) -> None:
        """Forget a digest and every image name that still means it."""
        ...


class NamespaceStore(Protocol):
    """Namespaces that users created; the default one is not among them."""

    async def namespaces(self) -> list[Namespace]:
        """All of them, sorted by name."""
        ...

    async def save_namespace(self, namespace: Namespace) -> None:
        """Insert or replace, by name."""
        ...

    async def delete_namespace(self, name: str) -> None:
        """Forget a namespace; an unknown one is no error."""
        ...


class UsageStore(Protocol):
    """How often functions were called."""

    async def add_usage(self, rows: Iterable[MinuteUsage]) -> None:
        """Add to what is kept for (function, minute, status, cold)."""
        ...

    async def prune_usage(self, before_minute: int, hours_before: int) -> None:
        """Forget the minutes before `before_minute`; of those before `hours_before` keep the sums of each hour, under
        its first minute. The calls ever recorded stay counted, but for a removed function of which nothing else is
        kept any more."""
        ...

    async def usage(self, function: FunctionId | None, since_minute: int) -> list[MinuteUsage]:
        """Rows of one function, or of all, from `since_minute` on, sorted by their key."""
        ...

    async def invocations(self) -> dict[FunctionId, int]:
        """Calls ever recorded, by function; removed ones, too."""
        ...


class Store(Functions, BundleIndex, NamespaceStore, UsageStore, Protocol):
    """All of it in one place."""

    @property
    def condition(self) -> Condition:
        """How it is now."""
        ...

    async def close(self) -> None:
        """Finish what is under way; nothing may be asked afterwards. Closing twice is no error."""
        ...


class Secrets(Protocol):
    """Functions' secrets. Nothing here gives a value back: the node reads it where an instance starts.

    Names are checked by the caller; one caller at a time changes a namespace.
    """

    async def names(self, namespace: str) -> list[str]:
        """Sorted; empty for a namespace that has none."""
        ...

    async def save(self, namespace: str, name: str, value: bytes) -> None:
        """Insert or replace; a reader meanwhile gets the old value or the new one, whole."""
        ...

    async def delete(self, namespace: str, name: str) -> None: ...

    async def delete_namespace(self, namespace: str) -> None:
        """Forget all secrets of a namespace."""
        ...
