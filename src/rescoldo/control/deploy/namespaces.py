"""Namespaces and their secrets; no deployed function loses a secret that it names."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import replace
from itertools import chain

from rescoldo.control.fleet.entry import Entry
from rescoldo.model.errors import Conflict, InvalidInput, NotFound
from rescoldo.model.function import FunctionSpec
from rescoldo.model.metadata import check_table
from rescoldo.model.names import DEFAULT_NAMESPACE, FunctionId, RouteKey, check_name, split_id
from rescoldo.model.secret import MAX_NAMESPACE_SECRETS, check_secret
from rescoldo.store.protocol import Namespace, NamespaceStore, Secrets

MARK = {"openfaas": "1"}  # the annotation by which OpenFaaS's tools know a namespace for functions
SHOWN = 5  # names shown in an error


class Namespaces:
    """Changes namespaces and secrets, one at a time."""

    def __init__(self, store: NamespaceStore, secrets: Secrets, entries: Mapping[RouteKey, Entry]) -> None:
        """`entries` are the revisions that take traffic, at any moment."""
        self._store = store
        self._secrets = secrets
        self._entries = entries
        self._known = {DEFAULT_NAMESPACE: Namespace(DEFAULT_NAMESPACE, {}, MARK)}
        self._changing = asyncio.Lock()  # held while namespaces and secrets change
        self._arriving: list[FunctionSpec] = []  # deployments under way, which may take a while

    async def load(self) -> None:
        """Read the namespaces from the store."""
        self._known |= {space.name: space for space in await self._store.namespaces()}

    def names(self) -> list[str]:
        """See api.protocol.Namespaces."""
        return sorted(self._known)

    def get(self, name: str) -> Namespace:
        """See api.protocol.Namespaces."""
        self.check(name)
        return self._known[name]

    def check(self, name: str) -> None:
        """Raise NotFound unless the namespace exists."""
        if name not in self._known:
            raise NotFound(
                f"namespace {name[:80]!r} does not exist; see `rescoldo namespace list`, or create it with "
                "`rescoldo namespace create`"
            )

    async def save(self, namespace: Namespace, *, must_exist: bool) -> None:
        """See api.protocol.Namespaces."""
        check_name(namespace.name, "namespace")
        check_table("label", namespace.labels)
        check_table("annotation", namespace.annotations, lines=True)
        async with self._changing:
            if must_exist:
                self.check(namespace.name)
            elif namespace.name in self._known:
                raise Conflict(f"namespace {namespace.name} exists already")
            marked = replace(namespace, annotations={**namespace.annotations, **MARK})
            await self._store.save_namespace(marked)
            self._known[namespace.name] = marked

    async def delete(self, name: str) -> None:
        """See api.protocol.Namespaces."""
        if name == DEFAULT_NAMESPACE:
            raise InvalidInput(f"the default namespace {name} cannot be removed")
        async with self._changing:
            self.check(name)
            if any(spec.namespace == name for spec in self._specs()):
                raise InvalidInput(f"namespace {name} still holds functions; remove them first")
            # secrets first: a later namespace of this name must not find them
            await self._secrets.delete_namespace(name)
            await self._store.delete_namespace(name)
            del self._known[name]

    async def secrets(self, namespace: str) -> list[str]:
        """The names of a namespace's secrets. Raises NotFound."""
        self.check(namespace)
        return await self._secrets.names(namespace)

    async def save_secret(self, namespace: str, name: str, value: bytes, *, must_exist: bool) -> set[FunctionId]:
        """Save a secret; return the functions that name it, including those being deployed. Their instances still
        have the old value. Raises InvalidInput, TooLarge, NotFound, Conflict."""
        check_secret(name, value)
        async with self._changing:
            names = await self.secrets(namespace)
            if must_exist and name not in names:
                raise NotFound(f"secret {name} does not exist in namespace {namespace}; create it first")
            if not must_exist and name in names:
                raise Conflict(f"secret {name} exists already in namespace {namespace}; update it instead")
            if name not in names and len(names) >= MAX_NAMESPACE_SECRETS:
                raise InvalidInput(f"namespace {namespace} already has the {len(names)} secrets allowed; remove some")
            await self._secrets.save(namespace, name, value)
            return self.users(namespace, name)

    async def delete_secret(self, namespace: str, name: str) -> None:
        """Delete a secret. Raises NotFound, and Conflict while a function names it."""
        async with self._changing:
            if name not in await self.secrets(namespace):
                raise NotFound(f"secret {name[:80]!r} does not exist in namespace {namespace}")
            if users := sorted(split_id(user)[0] for user in self.users(namespace, name)):
                raise Conflict(
                    f"secret {name} is used by {_some(users)}: first remove these functions, or deploy them without it"
                )
            await self._secrets.delete(namespace, name)

    @contextlib.asynccontextmanager
    async def deploying(self, spec: FunctionSpec) -> AsyncIterator[None]:
        """Check that a function's namespace and secrets exist, and keep them until the block ends. Raises NotFound,
        InvalidInput."""
        if spec.namespace == DEFAULT_NAMESPACE and not spec.secrets:  # the default namespace cannot be deleted
            yield
            return
        await self._check_place(spec)
        self._arriving.append(spec)
        try:
            yield
        finally:
            self._arriving.remove(spec)

    async def _check_place(self, spec: FunctionSpec) -> None:
        async with self._changing:
            self.check(spec.namespace)
            present = await self._secrets.bring(spec.namespace, spec.secrets)
            if missing := sorted(set(spec.secrets).difference(present)):
                raise InvalidInput(
                    f"namespace {spec.namespace} has no secret {_some(missing)}: create it first, for example with "
                    f"`rescoldo secret create {missing[0]} --from-file FILE --namespace {spec.namespace}`"
                )

    def _specs(self) -> Iterator[FunctionSpec]:
        return chain((entry.function.spec for entry in self._entries.values()), self._arriving)

    def users(self, namespace: str, secret: str) -> set[FunctionId]:
        """The functions that name a secret, including those being deployed."""
        return {spec.id for spec in self._specs() if spec.namespace == namespace and secret in spec.secrets}


def _some(names: list[str]) -> str:
    """The first few of many names."""
    rest = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + rest
