"""What the API asks of a controller: a narrow plug-point for each subject. The controller's parts implement them
(assembly/parts.py says which); tests/unit/api/fake_platform.py is a stand-in for all of them."""

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
    """How functions are."""

    def functions(self, namespace: str) -> list[FunctionStatus]:
        """The functions of a namespace, sorted by name; none where there is no such namespace."""
        ...

    async def function(self, function: FunctionId, *, usage: bool = False, why: bool = False) -> FunctionStatus:
        """With `usage` what its instances use and its cold starts took, with `why` why it has as many instances as it
        has. Raises NotFound."""
        ...


class Deployments(Protocol):
    """Creates functions and gives them revisions."""

    async def deploy(self, spec: FunctionSpec, *, must_exist: bool, start: bool = True, patience: float = 0.0) -> bool:
        """Create or replace. What replaces a revision that has started is returned from once it has started itself;
        what has nothing to protect is deployed at once, and started behind that. `patience` are the seconds to wait
        for the latter; without `start` nothing is started. Returns False while that goes on.

        Raises InvalidInput, UnknownImage, NotFound when `must_exist` (PUT) and it does not, or when its namespace does
        not exist, RolloutFailed when it did not start and the revision before serves on, NotStarted when it is
        deployed and does not start."""
        ...

    def notes(self, spec: FunctionSpec) -> list[str]:
        """A sentence for each setting of a deployment that is accepted and has no effect here."""
        ...

    async def roll_back(self, function: FunctionId, revision: int | None) -> int:
        """Deploy a past revision again, the last one without a number: a new revision with its deployment and its
        bundle, checked as any other. Returns the number of what is current then. Raises NotFound, InvalidInput,
        RolloutFailed."""
        ...


class Removals(Protocol):
    """Removes functions."""

    async def remove(self, function: FunctionId) -> None:
        """Raises NotFound."""
        ...


class Pauses(Protocol):
    """Pauses functions and resumes them."""

    async def pause(self, function: FunctionId) -> None:
        """Refuse a function's calls and let its instances go, until it is resumed; again is no error. Deployments
        meanwhile are taken unchecked. Raises NotFound."""
        ...

    async def resume(self, function: FunctionId) -> None:
        """Take calls again; what was deployed while it was paused is started to see whether it does. Raises
        NotFound."""
        ...


class Scaling(Protocol):
    """Gives functions as many instances as somebody asks for."""

    async def scale(self, function: FunctionId, replicas: int) -> None:
        """Bring the function to `replicas` instances; 0 puts it to sleep. Raises NotFound, InvalidInput, and
        Conflict for one that is paused."""
        ...


class Revisions(Protocol):
    """The revisions that functions keep."""

    async def revisions(self, function: FunctionId) -> list[RevisionStatus]:
        """The revisions that are kept, the last first. Raises NotFound."""
        ...


class Traffic(Protocol):
    """Splits functions' traffic."""

    async def split(self, function: FunctionId, shares: Mapping[int, int]) -> None:
        """Share the function's calls out among its revisions, by percent; until its next deployment. Raises NotFound,
        InvalidInput, and RolloutFailed for a revision that does not start any more."""
        ...


class Images(Protocol):
    """Bundles by the names of their images, and the layers of their requirements."""

    def named(self, image: str | None) -> list[Bundle]:
        """The bundles of one name, or all."""
        ...

    async def add(self, image: str, body: AsyncIterator[bytes], digest: str | None) -> Bundle:
        """Store an upload as `image`. Raises InvalidInput (damaged, wrong Python, unsafe paths, digest
        mismatch) and TooLarge."""
        ...

    async def tag(self, image: str, digest: str) -> Bundle:
        """Let `image` mean a digest that is already here. Raises NotFound."""
        ...

    def has_layer(self, digest: str) -> bool:
        """Whether a layer of requirements is here. One that is stays for a day, also before a bundle names it."""
        ...

    async def add_layer(self, body: AsyncIterator[bytes], digest: str | None) -> str:
        """Store an upload as a layer; return its digest. Raises as `add` does."""
        ...


class Builds(Protocol):
    """Builds what clients of OpenFaaS's builder send."""

    async def build(self, body: AsyncIterator[bytes]) -> AsyncGenerator[BuildStep, None]:
        """Build an archive; the steps end with success or failure. Raises Busy, TooLarge, TooSlow, StoreError and what
        `body` raises, before the first step."""
        ...


class Namespaces(Protocol):
    """The namespaces that there are."""

    def names(self) -> Sequence[str]:
        """Sorted."""
        ...

    def get(self, name: str) -> Namespace:
        """Raises NotFound."""
        ...

    async def save(self, namespace: Namespace, *, must_exist: bool) -> None:
        """Raises InvalidInput, Conflict (POST of one that exists) or NotFound (PUT of one that does not)."""
        ...

    async def delete(self, name: str) -> None:
        """Forget a namespace and its secrets. Raises NotFound; InvalidInput for the default one and for one that
        still holds functions."""
        ...


class Secrets(Protocol):
    """Functions' secrets."""

    async def secrets(self, namespace: str) -> list[str]:
        """The names of a namespace's secrets, sorted. Raises NotFound without such a namespace."""
        ...

    async def save_secret(self, namespace: str, name: str, value: bytes, *, must_exist: bool) -> None:
        """Keep a secret; functions that name it are given the new value as by a new deployment.

        Raises InvalidInput, TooLarge, Conflict (POST of one that exists) or NotFound (PUT of one that does not,
        or no such namespace). No error says the value.
        """
        ...

    async def delete_secret(self, namespace: str, name: str) -> None:
        """Raises NotFound; Conflict while deployed functions name it."""
        ...


class Logs(Protocol):
    """The lines that functions print."""

    def read(
        self, function: FunctionId, *, tail: int | None, since: float | None, follow: bool, instance: str
    ) -> AsyncIterator[LogLine]:
        """Raises NotFound before the first line."""
        ...


class Overview(Protocol):
    """The platform as a whole."""

    @property
    def architecture(self) -> str:
        """Of the machine that functions run on, as `uname -m` says it."""
        ...

    def problems(self) -> list[str]:
        """What the platform has lost or cannot do now, with the remedy; none while all is well."""
        ...

    async def metrics(self) -> bytes:
        """Prometheus text with the gateway metric names of OpenFaaS."""
        ...

    async def report(self) -> Mapping[str, Any]:
        """What `rescoldo status` shows: versions, processes, counts."""
        ...


@dataclass(frozen=True, slots=True)
class Platform:
    """All that the API needs; each router is given its part of it."""

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
