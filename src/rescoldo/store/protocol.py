"""The controller's durable data by subject: the plug-points `Functions`, `BundleIndex`, `NamespaceStore`, `UsageStore`
and `Secrets`. Each part of the controller names the subject it needs; `Store` combines the first four.

`SqliteStore` (store/sqlite/store.py) and `SecretFiles` (store/secretfiles.py) are the real implementations;
`MemoryStore` and `MemorySecrets` (store/memory.py) are the shipped fakes. They all pass tests/contract/test_store.py,
test_functions.py and test_secrets.py. Every method raises StoreError if the disk fails or refuses.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from rescoldo.model.function import Function
from rescoldo.model.names import FunctionId
from rescoldo.model.revision import KEPT_REVISIONS, Revision
from rescoldo.model.standing import Standing


@dataclass(frozen=True, slots=True)
class Bundle:
    """The bundle that an image name refers to on this platform."""

    image: str
    digest: str
    size: int  # bytes of the upload
    created_at: float  # Unix seconds
    gid: int  # index of the group that may read the bundle: unique for each digest, never reused


@dataclass(frozen=True, slots=True)
class Namespace:
    """A namespace that a user created."""

    name: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class MinuteUsage:
    """The sums of one function's calls with the same outcome in one minute; in one hour for older calls."""

    function: FunctionId
    minute: int  # Unix minutes; of an hour, its first minute
    status: int  # as in CallKey
    cold: bool  # as in CallKey
    calls: int
    queue_ms: int
    run_ms: int
    bytes_in: int
    bytes_out: int


@dataclass(frozen=True, slots=True)
class Condition:
    """The health of a database, for people and for metrics."""

    problem: str = ""  # the current failure and its remedy; empty: none
    rewritten: int = 0  # restores since the controller started
    rewritten_at: float = 0.0  # Unix seconds of the last restore
    reason: str = ""  # of the last restore
    lost: str = ""  # data that the last restore could not recover


class FunctionSource(Protocol):
    """The deployed functions, as a controller reads them. Other processes may change them, too."""

    @property
    def complete(self) -> bool:
        """Whether `functions` returns all there are. If not, `function` may find others by name."""
        ...

    async def functions(self) -> list[Function]:
        """Return all functions with their current revisions, sorted by id."""
        ...

    async def function(self, function: FunctionId) -> Function | None:
        """Return one function; None if it is not deployed."""
        ...

    async def revisions(self, function: FunctionId) -> list[Revision]:
        """Return a function's past and failed revisions, newest first; the current one is not among them."""
        ...

    async def revision_digests(self) -> set[str]:
        """Return the bundles of all past revisions that have served: a rollback may need them."""
        ...

    async def requested_replicas(self, of: FunctionId | None = None) -> dict[FunctionId, int]:
        """Return the numbers of instances that users asked for, by function; without the functions nobody scaled. `of`:
        of this function alone."""
        ...

    async def standings(self, of: FunctionId | None = None) -> dict[FunctionId, Standing]:
        """Return the standings of functions; one whose standing is PLAIN is not among them. `of`: of this function
        alone."""
        ...

    def watch(self) -> AsyncIterator[FunctionId | None]:
        """Iterate over the functions that others save or remove from this call on, or whose revisions, requested
        replicas or standings they change.

        None means "look at all": changes may have been missed, or the source cannot tell which function changed. Read
        each function anew, as it may have changed again. Changes through this object itself are left out, though None
        may come without a reason. The iteration ends when the source is closed; drop the iterator to end it earlier.
        """
        ...


class Functions(FunctionSource, Protocol):
    """The deployed functions, as a controller reads and writes them."""

    async def save_function(
        self, function: Function, *, keep: int = KEPT_REVISIONS, standing: Standing | None = None
    ) -> None:
        """Insert or replace a function by id, together with its standing unless that is None.

        A replaced revision becomes a past one. The last `keep` revisions that have served stay, including the current
        one.
        """
        ...

    async def save_failed(self, function: FunctionId, revision: Revision, *, keep: int = KEPT_REVISIONS) -> None:
        """Save a revision of a deployed function that did not start; the last `keep` failed ones stay."""
        ...

    async def save_requested_replicas(self, function: FunctionId, replicas: int) -> None:
        """Save the number of instances that a user asked for; 0 forgets it. Ignored if the function is not deployed."""
        ...

    async def save_standing(self, function: FunctionId, standing: Standing) -> None:
        """Save a function's standing. Ignored if the function is not deployed."""
        ...

    async def delete_function(self, function: FunctionId) -> None:
        """Forget a function, its revisions, its requested replicas and its standing."""
        ...


class BundleIndex(Protocol):
    """Maps image names to bundles."""

    async def bundles(self) -> list[Bundle]:
        """Return all bundles, sorted by image name."""
        ...

    async def save_bundle(self, image: str, digest: str, size: int, now: float) -> Bundle:
        """Point `image` to `digest` from `now` on (Unix seconds); a known digest keeps its gid. `size` is in bytes."""
        ...

    async def delete_bundle(self, digest: str) -> None:
        """Forget a digest and every image name that still points to it."""
        ...


class NamespaceStore(Protocol):
    """Namespaces that users created; the default one is not among them."""

    async def namespaces(self) -> list[Namespace]:
        """Return all of them, sorted by name."""
        ...

    async def save_namespace(self, namespace: Namespace) -> None:
        """Insert or replace a namespace by name."""
        ...

    async def delete_namespace(self, name: str) -> None:
        """Forget a namespace; an unknown one is no error."""
        ...


class UsageStore(Protocol):
    """The counts of functions' calls."""

    async def add_usage(self, rows: Iterable[MinuteUsage]) -> None:
        """Add each row to the stored sums of its (function, minute, status, cold)."""
        ...

    async def prune_usage(self, before_minute: int, hours_before: int) -> None:
        """Forget the minutes before `before_minute`, and merge the minutes before `hours_before` into hours.

        An hour's sums are stored under its first minute. `invocations` still counts the forgotten calls, except for a
        removed function whose last row is gone.
        """
        ...

    async def usage(self, function: FunctionId | None, since_minute: int) -> list[MinuteUsage]:
        """Return the rows of one function, or of all (None), from `since_minute` on, sorted by their key."""
        ...

    async def invocations(self) -> dict[FunctionId, int]:
        """Return the calls ever recorded, by function, including removed functions."""
        ...


class Batches(Protocol):
    """Numbered batches of counts, which others send again until they are acknowledged."""

    async def add_batch(self, sender: str, number: int, rows: Sequence[MinuteUsage], minute: int) -> bool:
        """Add rows as `add_usage` does, unless this batch of its sender, or a later one, was added before. Return
        whether they were added; `minute` is the present one (Unix minutes)."""
        ...


class Store(Functions, BundleIndex, NamespaceStore, UsageStore, Protocol):
    """All four subjects in one place."""

    @property
    def condition(self) -> Condition:
        """The store's health now."""
        ...

    async def close(self) -> None:
        """Finish the pending operations and refuse later ones. Closing twice is no error."""
        ...


class Secrets(Protocol):
    """Functions' secrets. No method returns a value: the node reads it when an instance starts.

    The caller checks names, and lets only one task at a time change a namespace.
    """

    async def names(self, namespace: str) -> list[str]:
        """Return the names of a namespace's secrets, sorted."""
        ...

    async def bring(self, namespace: str, names: Collection[str]) -> set[str]:
        """Return those secrets that exist. From now on the node finds their present values."""
        ...

    async def save(self, namespace: str, name: str, value: bytes) -> None:
        """Insert or replace a secret; a concurrent reader gets either the whole old value or the whole new one."""
        ...

    async def delete(self, namespace: str, name: str) -> None:
        """Forget a secret; an unknown one is no error."""
        ...

    async def delete_namespace(self, namespace: str) -> None:
        """Forget all secrets of a namespace."""
        ...
