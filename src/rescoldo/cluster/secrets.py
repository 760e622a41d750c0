"""Functions' secrets as Secrets of Kubernetes (secret_objects.py), whoever has made them.

The present values are in memory (secrets_followed.py), since a delivery is on the way of the first call at a worker.
What memory does not have is asked for: a large value, a Secret that the watch has not told yet, and everything before
the first list.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from rescoldo.cluster.secret_objects import (
    KEY,
    LABEL,
    SELECTOR,
    Stored,
    is_open,
    key_of,
    mark_of,
    object_of,
    read_secret,
    value_of,
)
from rescoldo.cluster.secrets_followed import GONE, FollowedSecrets
from rescoldo.cluster.secrets_told import ToldSecrets
from rescoldo.kube.errors import Changed, ClusterUnavailable, Forbidden
from rescoldo.kube.protocol import Cluster, Object
from rescoldo.kube.secrets import SECRETS, encoded, values_of
from rescoldo.model.errors import Busy, Conflict, NotFound, StoreError
from rescoldo.model.names import check_secret_name
from rescoldo.model.secret import check_secret

ATTEMPTS = 5  # of a change, while others change the Secret


class SecretName(NamedTuple):
    """What is unique at one moment."""

    namespace: str
    name: str


class SecretsUnavailable(StoreError, Busy):
    """The Kubernetes API, which has the secrets, cannot be reached; try again."""

    status = 503


class KubeSecrets:
    """Implements `Secrets`, and gives values to workers. `run` follows the API server until it is cancelled.

    `delete` and `delete_namespace` delete the Secrets themselves, also those that users have made and labelled.
    """

    def __init__(self, cluster: Cluster, namespaces: Iterable[str], told: Path | None = None) -> None:
        """`told`: the file of ToldSecrets; None: changes from before are not told."""
        self._cluster = cluster
        self._told = ToldSecrets(told)
        self._spaces = {
            place: FollowedSecrets(cluster, place, partial(self._note, place), self._told) for place in namespaces
        }
        self._changed: dict[SecretName, None] = {}  # by others, in the order of their first change
        self._news = asyncio.Event()

    @property
    def problems(self) -> Sequence[str]:
        """Why secrets are not followed at the moment."""
        return tuple(space.problem for space in self._spaces.values() if space.problem)

    async def run(self) -> None:
        """Follow the Secrets of all namespaces, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for namespace, space in self._spaces.items():
                tasks.create_task(space.run(), name=f"follow secrets in {namespace}")
            tasks.create_task(self._told.run(), name="remember secrets that were told")

    async def changes(self) -> AsyncIterator[SecretName]:
        """Iterate over the secrets that others make, remove or give another value, also while no control ran. One task
        may iterate; a secret that changes again before its turn comes once. One counts as told when the next is asked
        for."""
        while True:
            while self._changed:
                name = next(iter(self._changed))
                del self._changed[name]
                yield name
                if name not in self._changed:
                    self._space(name.namespace).close(name.name)
            self._news.clear()
            await self._news.wait()

    async def values(self, namespace: str, names: Iterable[str]) -> dict[str, bytes]:
        """The present values of some secrets, by name. Raises NotFound for one that is not there or not open to
        functions, InvalidInput for one whose keys do not say which value is meant, StoreError."""
        return {name: value_of(await self._read(namespace, name)) for name in names}

    # -- Secrets

    async def names(self, namespace: str) -> list[str]:
        known = self._space(namespace).names()
        if known is not None:
            return known
        with _understood():
            pages = [page async for page in self._cluster.list(SECRETS, namespace, SELECTOR)]
        return sorted(str(obj["metadata"]["name"]) for page in pages for obj in page.items)

    async def bring(self, namespace: str, names: Collection[str]) -> set[str]:
        return set(names).intersection(await self.names(namespace))

    async def save(self, namespace: str, name: str, value: bytes) -> None:
        """See store.protocol.Secrets. Raises Conflict for a Secret that is not open to functions, NotFound if the
        namespace does not exist, InvalidInput, TooLarge."""
        check_secret(name, value)
        space = self._space(namespace)
        with space.writing(name, mark_of(value)), _understood():
            for _ in range(ATTEMPTS):
                if (saved := await self._save(namespace, name, value)) is not None:
                    meta = saved["metadata"]
                    space.wrote(name, meta["uid"], int(meta["resourceVersion"]))
                    return
        raise SecretsUnavailable(f"secret {name} in namespace {namespace} is changed by somebody else all the time")

    async def delete(self, namespace: str, name: str) -> None:
        check_secret_name(name)
        space = self._space(namespace)
        with space.writing(name, GONE), _understood():
            for _ in range(ATTEMPTS):
                found = await self._get(namespace, name)
                if found is None or not is_open(found):
                    return
                meta = found["metadata"]
                try:
                    await self._cluster.delete(
                        SECRETS, name, namespace, uid=meta["uid"], version=meta["resourceVersion"]
                    )
                except (Changed, NotFound):
                    continue
                space.wrote(name, meta["uid"], int(meta["resourceVersion"]))
                return
        raise SecretsUnavailable(f"secret {name} in namespace {namespace} is changed by somebody else all the time")

    async def delete_namespace(self, namespace: str) -> None:
        for name in await self.names(namespace):
            await self.delete(namespace, name)

    # -- one Secret

    async def _read(self, namespace: str, name: str) -> Stored:
        known = self._space(namespace).get(name)
        if known is not None and (known.value is not None or not known.mark):
            return known
        check_secret_name(name)
        with _understood():
            found = await self._get(namespace, name)
        if found is None:
            raise NotFound(
                f"namespace {namespace} has no secret {name}: create it, for example with `rescoldo secret create "
                f"{name} --from-file FILE --namespace {namespace}`"
            )
        if not is_open(found):
            raise NotFound(
                f"Secret {name} in namespace {namespace} is not open to functions: `kubectl label secret {name} "
                f"-n {namespace} {LABEL}=true` opens it"
            )
        return read_secret(found)

    async def _get(self, namespace: str, name: str) -> Object | None:
        try:
            return await self._cluster.get(SECRETS, name, namespace)
        except NotFound:
            return None

    async def _save(self, namespace: str, name: str, value: bytes) -> Object | None:
        """Create or change a Secret; None if others did so at the same time. Raises Conflict, NotFound."""
        found = await self._get(namespace, name)
        if found is None:
            try:
                return await self._cluster.create(SECRETS, object_of(namespace, name, value))
            except Conflict:
                return None
        if not is_open(found):
            raise Conflict(
                f"namespace {namespace} has a Secret {name} that is not open to functions: `kubectl label secret "
                f"{name} -n {namespace} {LABEL}=true` opens it, or choose another name"
            )
        key = key_of(name, values_of(found)) or KEY
        patch = {
            "metadata": {"resourceVersion": found["metadata"]["resourceVersion"]},
            "data": encoded({key: value}),
        }
        try:
            return await self._cluster.patch(SECRETS, name, patch, namespace)
        except (Changed, NotFound):
            return None

    def _space(self, namespace: str) -> FollowedSecrets:
        """A namespace that is not followed knows nothing: it is asked for each time."""
        return self._spaces.get(namespace) or FollowedSecrets(self._cluster, namespace, lambda _: None)

    def _note(self, namespace: str, name: str) -> None:
        self._changed[SecretName(namespace, name)] = None
        self._news.set()


@contextmanager
def _understood() -> Iterator[None]:
    """The cluster's errors as those of a store."""
    try:
        yield
    except ClusterUnavailable as error:
        raise SecretsUnavailable(error.message, retry_after=error.retry_after) from error
    except Forbidden as error:
        raise StoreError(error.message) from error
