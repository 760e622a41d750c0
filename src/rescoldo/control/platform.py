"""What the API may ask of the controller. `Controller` (controller.py) implements it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any, Protocol

from rescoldo.control.deploy.builds import BuildStep
from rescoldo.model.function import FunctionSpec, FunctionStatus
from rescoldo.model.instance import LogLine
from rescoldo.model.names import FunctionId
from rescoldo.model.revision import RevisionStatus
from rescoldo.store.protocol import Bundle, Namespace


class Platform(Protocol):
    def problems(self) -> list[str]:
        """What the platform has lost or cannot do now, with the remedy; none while all is well."""
        ...

    async def functions(self, namespace: str) -> list[FunctionStatus]:
        """The functions of a namespace, sorted by name."""
        ...

    async def function(self, function: FunctionId, *, usage: bool = False, why: bool = False) -> FunctionStatus:
        """With `usage` what its instances use and its cold starts took, with `why` why it has as many instances as it
        has. Raises NotFound."""
        ...

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

    async def pause(self, function: FunctionId) -> None:
        """Refuse a function's calls and let its instances go, until it is resumed; again is no error. Deployments
        meanwhile are taken unchecked. Raises NotFound."""
        ...

    async def resume(self, function: FunctionId) -> None:
        """Take calls again; what was deployed while it was paused is started to see whether it does. Raises
        NotFound."""
        ...

    async def roll_back(self, function: FunctionId, revision: int | None) -> int:
        """Deploy a past revision again, the last one without a number: a new revision with its deployment and its
        bundle, checked as any other. Returns the number of what is current then. Raises NotFound, InvalidInput,
        RolloutFailed."""
        ...

    async def split(self, function: FunctionId, shares: Mapping[int, int]) -> None:
        """Share the function's calls out among its revisions, by percent; until its next deployment. Raises NotFound,
        InvalidInput, and RolloutFailed for a revision that does not start any more."""
        ...

    async def revisions(self, function: FunctionId) -> list[RevisionStatus]:
        """The revisions that are kept, the last first. Raises NotFound."""
        ...

    async def remove(self, function: FunctionId) -> None:
        """Raises NotFound."""
        ...

    async def scale(self, function: FunctionId, replicas: int) -> None:
        """Bring the function to `replicas` instances; 0 puts it to sleep. Raises NotFound, InvalidInput, and
        Conflict for one that is paused."""
        ...

    async def bundles(self, image: str | None) -> list[Bundle]: ...

    async def add_bundle(self, image: str, body: AsyncIterator[bytes], digest: str | None) -> Bundle:
        """Store an upload as `image`. Raises InvalidInput (damaged, wrong Python, unsafe paths, digest
        mismatch) and TooLarge."""
        ...

    async def tag_bundle(self, image: str, digest: str) -> Bundle:
        """Let `image` mean a digest that is already here. Raises NotFound."""
        ...

    async def has_layer(self, digest: str) -> bool:
        """Whether a layer of requirements is here. One that is stays for a day, also before a bundle names it."""
        ...

    async def add_layer(self, body: AsyncIterator[bytes], digest: str | None) -> str:
        """Store an upload as a layer; return its digest. Raises as add_bundle does."""
        ...

    async def build(self, body: AsyncIterator[bytes]) -> AsyncGenerator[BuildStep, None]:
        """Build the archive of a client of OpenFaaS's builder; the steps end with success or failure. Raises Busy,
        TooLarge, TooSlow, StoreError and what `body` raises, before the first step."""
        ...

    async def namespaces(self) -> list[str]: ...

    async def namespace(self, name: str) -> Namespace:
        """Raises NotFound."""
        ...

    async def save_namespace(self, namespace: Namespace, *, must_exist: bool) -> None:
        """Raises InvalidInput, Conflict (POST of one that exists) or NotFound (PUT of one that does not)."""
        ...

    async def delete_namespace(self, name: str) -> None:
        """Forget a namespace and its secrets. Raises NotFound; InvalidInput for the default one and for one that
        still holds functions."""
        ...

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

    async def logs(
        self, function: FunctionId, *, tail: int | None, since: float | None, follow: bool, instance: str
    ) -> AsyncIterator[LogLine]:
        """Raises NotFound before the first line."""
        ...

    async def metrics(self) -> bytes:
        """Prometheus text with the gateway metric names of OpenFaaS."""
        ...

    async def status(self) -> Mapping[str, Any]:
        """What `rescoldo status` shows: versions, processes, counts."""
        ...
