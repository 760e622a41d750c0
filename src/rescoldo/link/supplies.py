"""Brings what a function needs from control to this worker: bundles with their layers, and secrets."""

from __future__ import annotations

import asyncio
from weakref import WeakValueDictionary

from rescoldo.bundle.protocol import Archives, Bundles
from rescoldo.link.protocol import Archive, Control, Delivery
from rescoldo.link.secrets import JoinedSecrets
from rescoldo.model.deployed import Deployed
from rescoldo.model.errors import NotFound, StartFailed


class Supplies:
    """Implements `Elsewhere`, and fills the worker's own storages. Bundles stay, as they are named by their content; a
    secret is written whenever its value is another one."""

    def __init__(self, control: Control, bundles: Bundles, secrets: JoinedSecrets, most_bytes: int) -> None:
        """`most_bytes`: of one archive."""
        self._control = control
        self._bundles = bundles
        self._secrets = secrets
        self._most = most_bytes
        self._layers: dict[str, str] = {}  # by digest of the bundle, as control has told
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()  # by digest

    async def bring(self, delivery: Delivery) -> None:
        """Return once the serving revisions of a function could start here. Raises StartFailed if control has not what
        they need, Unreachable, InvalidInput for a damaged archive, StoreError."""
        self._layers |= delivery.layers
        for digest in _digests(delivery.document):
            await self.need(digest)
        await self._secrets.keep(delivery.document.function.spec.namespace, delivery.secrets)

    async def digest(self, image: str) -> str:
        found = await self._control.image(image)
        if found is None:
            return ""
        bundle, self._layers[bundle.digest] = found
        return bundle.digest

    async def need(self, digest: str) -> None:
        if self._bundles.has(digest):
            return
        layer = self._layers.get(digest, "")
        async with self._turn(digest):
            if self._bundles.has(digest):
                return
            if layer:
                async with self._turn(layer):
                    if not self._bundles.layers.touch(layer):
                        await self._receive(self._bundles.layers, "layers", layer)
            await self._receive(self._bundles, "bundles", digest)
            await self._bundles.own(digest, int(digest[:8], 16))

    async def _receive(self, storage: Archives, kind: Archive, digest: str) -> None:
        try:
            received = await storage.receive(self._control.archive(kind, digest), self._most, digest)
        except NotFound as error:
            raise StartFailed(
                f"{error.message}: build and deploy the function again with `rescoldo up`"
            ) from error
        await storage.unpack(received)

    def _turn(self, digest: str) -> asyncio.Lock:
        return self._turns.setdefault(digest, asyncio.Lock())


def _digests(document: Deployed) -> set[str]:
    """The bundles of the revisions that take traffic."""
    shares = document.function.traffic
    return {document.function.digest} | {one.digest for one in document.revisions if one.number in shares}
