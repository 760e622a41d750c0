"""What the platform asks of a Kubernetes API server, on plain JSON objects.

Source of the contract: https://kubernetes.io/docs/reference/using-api/api-concepts. Every method raises the errors of
kube/errors.py: `NotFound`, `Conflict` and its kinds, `Forbidden`, `InvalidInput`, `TooLarge`, and `ClusterUnavailable`
for whatever may be better in a moment. None waits for ever: a request ends within REQUEST_SECONDS, and a watch whose
server is silent within WATCH_SECONDS + WATCH_GRACE.

Objects come without `metadata.managedFields`, which are about as large as the rest: so an object that was read must
not be sent back whole. Nothing here can: there is no replace, only `apply` and `patch`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

Object = dict[str, Any]  # JSON

MANAGER = "rescoldo"  # the field manager of what we write
REQUEST_SECONDS = 30.0  # from the request to the last byte of its answer
# The API server ends a watch after this time, so that a silent connection shows: a network that is cut without a reset
# is noticed within WATCH_SECONDS + WATCH_GRACE = 40 s. At rest a watch costs one request each 30 s, 0.033 a second.
WATCH_SECONDS = 30
WATCH_GRACE = 10.0
# etcd refuses objects above 1.5 MiB in the form that it stores. JSON may be longer (base64, managedFields); the API
# server reads no more than this of a request.
MAX_OBJECT = 3 * 2**20  # bytes
PAGE = 500  # objects that a list asks for at once
MAX_PAGE = 8 * 2**20  # bytes; a page that is larger is asked for again with half as many objects


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind of object: where the API server has it, and what its objects call themselves."""

    group: str  # "" for the core's
    version: str
    kind: str
    plural: str
    namespaced: bool = True
    has_status: bool = False  # has the subresource `status`, and a generation that counts changes of the rest

    @property
    def api_version(self) -> str:
        """`apiVersion` of its objects."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def name(self) -> str:
        """The name that rights and messages use: `functions.rescoldo.dev`, `pods`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list. All pages of one list show the same moment: `version`, from which a watch goes on."""

    items: Sequence[Object]
    version: str


class EventType(StrEnum):
    """What an event of a watch tells."""

    OPENED = "OPENED"  # ours: the API server has accepted the watch, and sends at once what was missed; no object
    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"  # the object's last state; or it no longer matches the labels
    BOOKMARK = "BOOKMARK"  # everything up to metadata.resourceVersion has been sent; the object has nothing else


@dataclass(frozen=True, slots=True)
class Event:
    """An event of a watch."""

    type: EventType
    object: Object


class Cluster(Protocol):
    """An API server. `namespace` is empty for kinds without namespaces, and in lists and watches for all of them."""

    async def version(self) -> str:
        """Return the version of the Kubernetes API server, as `v1.36.3` or `v1.33.1+k3s1`."""
        ...

    async def get(self, resource: Resource, name: str, namespace: str = "") -> Object:
        """Return an object. Raises NotFound."""
        ...

    def list(self, resource: Resource, namespace: str = "", labels: str = "") -> AsyncGenerator[Page]:
        """Yield all objects that match the selector `labels`, in pages: at least one page, which may be empty.

        Raises Expired if the list took so long that the API server forgot its moment (5 min by default): list again.
        """
        ...

    def watch(
        self, resource: Resource, version: str, namespace: str = "", labels: str = ""
    ) -> AsyncGenerator[Event]:
        """Yield OPENED, then what changes after `version`, until the API server ends the watch.

        It does so after about WATCH_SECONDS without meaning anything by it: watch again from the last event's version.
        A bookmark comes shortly before, if objects of this kind changed that the watch does not show. Raises Expired
        if the changes since `version` are no longer there, and for an ERROR event: list again. After ClusterUnavailable
        a watch from the last event's version is enough. The caller closes the generator (contextlib.aclosing).
        """
        ...

    async def create(self, resource: Resource, obj: Mapping[str, Any], manager: str = MANAGER) -> Object:
        """Create an object and return it as it was stored. Raises Conflict if it exists."""
        ...

    async def apply(
        self,
        resource: Resource,
        obj: Mapping[str, Any],
        manager: str = MANAGER,
        *,
        force: bool = False,
        subresource: str = "",
    ) -> Object:
        """Create or change an object by server-side apply: `manager` owns the fields of `obj`, and what it owned before
        and no longer gives is removed.

        Raises Owned if another manager owns a field with another value, unless `force` takes it over. With
        `metadata.resourceVersion`, raises Changed unless that is the stored one.
        """
        ...

    async def patch(
        self,
        resource: Resource,
        name: str,
        change: Mapping[str, Any],
        namespace: str = "",
        manager: str = MANAGER,
        *,
        subresource: str = "",
    ) -> Object:
        """Change an object by JSON Merge Patch (RFC 7386; None removes a field) and return it.

        Raises NotFound, and Changed if `metadata.resourceVersion` is given and is not the stored one.
        """
        ...

    async def delete(
        self, resource: Resource, name: str, namespace: str = "", *, uid: str = "", version: str = ""
    ) -> None:
        """Delete an object: at once, or when its last finalizer has been removed.

        Raises NotFound, and Changed if `uid` or `version` is given and is not the object's.
        """
        ...
