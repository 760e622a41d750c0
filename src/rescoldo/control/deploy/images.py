"""Resolves image names to bundles, and removes bundles that are not needed any more."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator

from rescoldo.bundle.protocol import Bundles, Elsewhere
from rescoldo.control.fleet.fleet import Fleet
from rescoldo.control.fleet.outages import outlast
from rescoldo.model.errors import InvalidInput, NotFound, UnknownImage
from rescoldo.model.metadata import check_image
from rescoldo.node.protocol import Node
from rescoldo.store.protocol import Bundle, Store
from rescoldo.tasks import Tasks

UNUSED_SECONDS = 86400.0  # an unused image stays deployable for this long
LEAVING_SECONDS = 0.5  # between checks whether draining instances still need a bundle


class Images:
    """The images that were uploaded or built here, and their bundles."""

    def __init__(
        self, store: Store, storage: Bundles, node: Node, fleet: Fleet, tasks: Tasks, max_upload: int,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        """`max_upload` is in bytes. `elsewhere`: None on a machine of its own, which has what was uploaded to it."""
        self._store = store
        self._storage = storage
        self._node = node
        self._fleet = fleet
        self._tasks = tasks
        self._max_upload = max_upload
        self._elsewhere = elsewhere
        self._known: dict[str, Bundle] = {}  # by name
        self._kinds: dict[str, str] = {}  # by digest
        self._using: Counter[str] = Counter()

    async def load(self) -> None:
        """Read the known images from the store."""
        self._known = {bundle.image: bundle for bundle in await self._store.bundles()}

    def named(self, image: str | None) -> list[Bundle]:
        """See api.protocol.Images."""
        return [bundle for name, bundle in sorted(self._known.items()) if image in (None, name)]

    async def look_up(self, image: str) -> None:
        """Have an image that is to be deployed here, if it is elsewhere. Raises StartFailed, StoreError."""
        if self._elsewhere is None:
            return
        if digest := await self._elsewhere.digest(image):
            await self._elsewhere.need(digest)
            self._known[image] = Bundle(image, digest, 0, time.time(), 0)
        else:
            self._known.pop(image, None)

    async def need(self, digest: str) -> None:
        """Have the bundle of a past revision here, if it is elsewhere. Raises StartFailed, StoreError."""
        if self._elsewhere is not None:
            await self._elsewhere.need(digest)

    def deployable_digest(self, image: str) -> str:
        """The digest of an image's bundle. Raises UnknownImage for an unknown image or a missing bundle."""
        bundle = self._known.get(image)
        if bundle is None or not self._storage.has(bundle.digest):
            raise UnknownImage(
                f"image {image[:200]!r} was not built or uploaded here, and this platform pulls no images: run "
                "`rescoldo up` (or `rescoldo build` and `rescoldo deploy`) in the folder of its stack.yaml"
            )
        return bundle.digest

    def known_digest(self, image: str) -> str:
        """The digest of an image's bundle, present or not; empty for an unknown image."""
        bundle = self._known.get(image)
        return bundle.digest if bundle is not None else ""

    def check_bundle(self, digest: str, image: str) -> None:
        """Raise InvalidInput if the bundle is missing or its manifest is unreadable."""
        if not self._storage.has(digest):
            raise InvalidInput(f"the bundle of {image[:200]} was removed meanwhile; deploy it again")
        self._storage.kind(digest)

    def kind(self, digest: str) -> str:
        """The kind of a bundle; empty where the bundle is missing or unreadable."""
        if digest not in self._kinds:
            try:
                self._kinds[digest] = self._storage.kind(digest)
            except (NotFound, InvalidInput):
                return ""
        return self._kinds[digest]

    async def add(self, image: str, body: AsyncIterator[bytes], digest: str | None) -> Bundle:
        """See api.protocol.Images."""
        check_image(image)
        received = await self._storage.receive(body, self._max_upload, digest)
        with self.in_use(received.digest):
            await self._storage.unpack(received)
            return await self._tag(image, received.digest, received.size)

    def has_layer(self, digest: str) -> bool:
        """See api.protocol.Images."""
        return self._storage.layers.touch(digest)

    async def add_layer(self, body: AsyncIterator[bytes], digest: str | None) -> str:
        """See api.protocol.Images."""
        received = await self._storage.layers.receive(body, self._max_upload, digest)
        await self._storage.layers.unpack(received)
        self.has_layer(received.digest)
        return received.digest

    async def tag(self, image: str, digest: str) -> Bundle:
        """See api.protocol.Images."""
        check_image(image)
        with self.in_use(digest):
            self._storage.check(digest)
            known = next((bundle for bundle in self._known.values() if bundle.digest == digest), None)
            if known is None:  # only functions still use it, and no image keeps its size
                raise NotFound(f"the bundle with digest {digest} was removed; upload it again")
            return await self._tag(image, digest, known.size)

    async def _tag(self, image: str, digest: str, size: int) -> Bundle:
        bundle = await self._store.save_bundle(image, digest, size, time.time())
        await self._storage.own(digest, bundle.gid)
        self._known[image] = bundle
        self.collect_soon()
        return bundle

    def collect_soon(self) -> None:
        """Collect in the background."""
        self._tasks.spawn("collect bundles", self.collect())

    async def collect(self) -> None:
        """Remove bundles that no revision, no instance and no fresh image needs. Bundles that only draining instances
        need go once these have ended."""
        while True:
            running = {instance.launch.digest for instance in await outlast(self._node.instances)}
            unneeded = set(self._storage.digests()) - self._needed()
            if unneeded:
                unneeded -= await self._store.revision_digests()
                unneeded -= self._needed()  # a bundle may have become current during the query
            for digest in unneeded - running:
                kept = await self._store.revision_digests()  # again: what is deployed while others go stays
                if not self._using[digest] and digest not in kept | self._needed():
                    await self._store.delete_bundle(digest)
                    await self._storage.remove(digest)
                    self._kinds.pop(digest, None)
                    self._known = {name: b for name, b in self._known.items() if b.digest != digest}
            await self._storage.collect_layers(time.time())
            if not unneeded & running:
                return
            await asyncio.sleep(LEAVING_SECONDS)

    def _needed(self) -> set[str]:
        """Bundles of revisions that take traffic, and of fresh images."""
        fresh = time.time() - UNUSED_SECONDS
        images = {bundle.digest for bundle in self._known.values() if bundle.created_at > fresh}
        return images | {entry.function.digest for entry in self._fleet.entries.values()}

    @contextlib.contextmanager
    def in_use(self, digest: str) -> Iterator[None]:
        """Keep a bundle from being collected between its arrival and the save of what needs it."""
        self._using[digest] += 1
        try:
            yield
        finally:
            self._using[digest] -= 1
            if not self._using[digest]:
                del self._using[digest]
