"""The API's interface to the controller: a narrow plug-point for each subject. The controller's parts implement them
(assembly/parts.py connects them); tests/unit/api/fake_platform.py stands in for all of them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from rescoldo.control.deploy.builds import BuildStep
from rescoldo.model.function import FunctionSpec, FunctionStatus
from rescoldo.model.instance import LogLine
from rescoldo.model.names import FunctionId
from rescoldo.model.revision import RevisionStatus
from rescoldo.store.protocol import Bundle, Namespace


class Statuses(Protocol):
    """Reports the status of functions."""

    def functions(self, namespace: str) -> list[FunctionStatus]:
        """The functions of a namespace, sorted by name; empty for an unknown namespace."""
        ...

    async def function(self, function: FunctionId, *, usage: bool = False, why: bool = False) -> FunctionStatus:
        """The status of one function. `usage` adds what its instances use and what its cold starts took; `why` adds
        the reason for its number of instances. Raises NotFound, and with `usage` NodeUnavailable while the node
        restarts."""
        ...


class Deployments(Protocol):
    """Creates functions and gives them revisions."""

    async def deploy(self, spec: FunctionSpec, *, must_exist: bool, start: bool = True, patience: float = 0.0) -> bool:
        """Create or replace a function. Return False while the first start of the deployed revision goes on.

        A revision that replaces one which has started must start first; this returns once it serves. A revision with
        nothing to protect is deployed at once and started in the background; this waits for that start up to `patience`
        seconds. Without `start` nothing is started.

        Raises InvalidInput; UnknownImage; NotFound with `must_exist` (PUT) for a new function, or without its
        namespace; RolloutFailed if it did not start and the revision before keeps serving; NotStarted if it is deployed
        and does not start; Busy without room for its check; Conflict if the function is removed meanwhile.
        """
        ...

    def notes(self, spec: FunctionSpec) -> list[str]:
        """A sentence for each setting of a deployment that is accepted and has no effect here."""
        ...

    async def roll_back(self, function: FunctionId, revision: int | None) -> int:
        """Deploy a past revision again; without a number, the last past one that started. It becomes a new revision
        with the old deployment and bundle, checked as any other. Return the number of the revision that is current
        then. Raises NotFound, InvalidInput, and the errors of a check, as `deploy` does."""
        ...


class Removals(Protocol):
    """Removes functions."""

    async def remove(self, function: FunctionId) -> None:
        """Remove a function. Raises NotFound."""
        ...


class Pauses(Protocol):
    """Pauses functions and resumes them."""

    async def pause(self, function: FunctionId) -> None:
        """Refuse a function's calls and let its instances go until it is resumed. Idempotent. Deployments to a paused
        function are accepted without a check. Raises NotFound."""
        ...

    async def resume(self, function: FunctionId) -> None:
        """Take calls again. A revision deployed during the pause is started now, to check that it starts. Raises
        NotFound."""
        ...


class Scaling(Protocol):
    """Brings functions to a requested number of instances."""

    async def scale(self, function: FunctionId, replicas: int) -> None:
        """Bring the function to `replicas` instances; 0 puts it to sleep. Raises NotFound, InvalidInput, Conflict for a
        paused function, and for one that does not wake StartFailed, StartTimeout or Busy."""
        ...


class Upkeep(Protocol):
    """Keeps functions awake on a worker, as its cluster's control requests."""

    async def keep(self, function: FunctionId) -> None:
        """Let the function's minimum and requested number of instances count here for the next 30 s, and begin to wake
        them. Raises NotFound; and StoreError while control cannot be reached, for a function not known here."""
        ...


class Revisions(Protocol):
    """Lists the revisions of functions."""

    async def revisions(self, function: FunctionId) -> list[RevisionStatus]:
        """A function's stored revisions, the newest first. Raises NotFound."""
        ...


class Traffic(Protocol):
    """Splits functions' traffic between revisions."""

    async def split(self, function: FunctionId, shares: Mapping[int, int]) -> None:
        """Split the function's calls between its revisions, by percent, until its next deployment. Raises NotFound,
        InvalidInput, Conflict for a paused function, and RolloutFailed for a revision that no longer starts."""
        ...


class Images(Protocol):
    """Stores bundles by image name, and layers of requirements."""

    def named(self, image: str | None) -> list[Bundle]:
        """The bundle of one image name, or all bundles, sorted by image name."""
        ...

    async def add(self, image: str, body: AsyncIterator[bytes], digest: str | None) -> Bundle:
        """Store an upload as `image`. Raises InvalidInput (damaged, wrong Python, unsafe paths, digest mismatch),
        TooLarge, StoreError, and the errors of `body`."""
        ...

    async def tag(self, image: str, digest: str) -> Bundle:
        """Give a stored bundle another image name. Raises NotFound, InvalidInput."""
        ...

    def has_layer(self, digest: str) -> bool:
        """Whether a layer of requirements is stored. A stored layer stays for a day, even if no bundle names it yet."""
        ...

    async def add_layer(self, body: AsyncIterator[bytes], digest: str | None) -> str:
        """Store an upload as a layer; return its digest. Raises as `add` does."""
        ...


class Builds(Protocol):
    """Builds the archives that clients of OpenFaaS's builder send."""

    async def build(self, body: AsyncIterator[bytes], namespace: str) -> AsyncGenerator[BuildStep, None]:
        """Build an archive for a namespace; the last step reports success or failure. Closing the generator ends the
        build. Raises, before the first step, Busy, TooLarge, TooSlow, StoreError, the errors of `body`, and
        InvalidInput for a namespace that it cannot build for."""
        ...


class Namespaces(Protocol):
    """Reads and changes namespaces."""

    def names(self) -> Sequence[str]:
        """The names of all namespaces, sorted."""
        ...

    def get(self, name: str) -> Namespace:
        """One namespace. Raises NotFound."""
        ...

    async def save(self, namespace: Namespace, *, must_exist: bool) -> None:
        """Create or update a namespace. Raises InvalidInput, Conflict (POST of an existing one) or NotFound (PUT of an
        unknown one)."""
        ...

    async def delete(self, name: str) -> None:
        """Delete a namespace and its secrets. Raises NotFound; InvalidInput for the default namespace and for one that
        still holds functions."""
        ...


class Secrets(Protocol):
    """Lists, saves and deletes functions' secrets."""

    async def secrets(self, namespace: str) -> list[str]:
        """The names of a namespace's secrets, sorted. Raises NotFound for an unknown namespace."""
        ...

    async def save_secret(self, namespace: str, name: str, value: bytes, *, must_exist: bool) -> Sequence[str]:
        """Save a secret; functions that name it get the new value as by a new deployment. Return notes for the client:
        which workers of a cluster have not got it yet.

        Raises InvalidInput, TooLarge, Conflict (POST of an existing one), NotFound (PUT of an unknown one, or an
        unknown namespace), and RolloutFailed for functions that do not start with the new value; their instances keep
        the old one. No error contains the value.
        """
        ...

    async def delete_secret(self, namespace: str, name: str) -> None:
        """Delete a secret. Raises NotFound; Conflict while deployed functions name it."""
        ...


class Logs(Protocol):
    """Reads the log lines of functions."""

    def read(
        self, function: FunctionId, *, tail: int | None, since: float | None, follow: bool, instance: str
    ) -> AsyncIterator[LogLine]:
        """The lines that match, and with `follow` new ones until the function is removed. Raises NotFound before the
        first line."""
        ...


class Overview(Protocol):
    """Reports on the platform as a whole."""

    @property
    def architecture(self) -> str:
        """The architecture of the machine that functions run on, as in `uname -m`."""
        ...

    def problems(self) -> list[str]:
        """The platform's present problems, each with its remedy; empty while all is well."""
        ...

    async def metrics(self) -> bytes:
        """Prometheus text with the gateway metric names of OpenFaaS."""
        ...

    async def report(self) -> Mapping[str, Any]:
        """The contents of `rescoldo status`: versions, processes, counts."""
        ...


@dataclass(frozen=True, slots=True)
class Platform:
    """All plug-points of the API; each router gets the ones that it needs."""

    statuses: Statuses
    deployments: Deployments
    removals: Removals
    pauses: Pauses
    scaling: Scaling
    revisions: Revisions
    traffic: Traffic
    images: Images
    builds: Builds
    namespaces: Namespaces
    secrets: Secrets
    logs: Logs
    overview: Overview
    upkeep: Upkeep | None = None  # None: not a worker of a cluster
    alerted: Scaling | None = None  # scales what alerts name; None: as any request to scale
