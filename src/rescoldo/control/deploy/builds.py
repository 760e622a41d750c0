"""Builds for faas-cli: an upload becomes an image's bundle. A `Builder` does it; this receives, orders and keeps.

Each build has a folder, which is removed however the build ends.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from rescoldo.bundle.bounded import write_new
from rescoldo.bundle.builder import Builder, BuildOrder
from rescoldo.control.deploy.images import Images
from rescoldo.control.deploy.process_builder import remove
from rescoldo.model.errors import Busy, RescoldoError, StoreError, TooSlow
from rescoldo.model.settings import Settings
from rescoldo.model.text import one_line
from rescoldo.tasks import Tasks

MAX_UPLOAD = 64 * 2**20  # bytes; never more than `max_system_body`
UPLOAD_SECONDS = 300.0
MOST_BUILDS = 12  # received, waiting or running: each has an upload on the disk
CHUNK = 2**20  # bytes read at once
RETRY_SECONDS = 10.0
PREFIX = "build-"
UPLOAD = "upload.tar"  # in a build's folder

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BuildStep:
    """A message of a build, in the words of OpenFaaS's builder."""

    status: str  # "in_progress", finally "success" or "failed"
    image: str = ""
    line: str = ""  # a line of its log
    error: str = ""


class Builds:
    """Limits the builds that wait, and runs a few at once."""

    def __init__(self, settings: Settings, images: Images, tasks: Tasks, builder: Builder) -> None:
        self._folder = settings.builds
        self._max_upload = min(MAX_UPLOAD, settings.max_system_body)
        self._images = images
        self._tasks = tasks
        self._builder = builder
        self._count = 0  # builds received, waiting or running
        self._places = asyncio.Semaphore(builder.limits.running)

    async def prepare(self) -> None:
        """Remove the leftovers of an earlier process. Call it once, at the start."""
        for left in self._folder.glob(f"{PREFIX}*"):
            await remove(left)
        await self._builder.prepare()

    async def build(self, body: AsyncIterator[bytes], namespace: str) -> AsyncGenerator[BuildStep, None]:
        """See api.protocol.Builds."""
        self._builder.check(namespace)
        if self._count >= MOST_BUILDS:
            raise Busy(f"{MOST_BUILDS} builds are already running; try again", retry_after=RETRY_SECONDS)
        self._count += 1
        folder: Path | None = None
        try:
            folder = self._make_folder()
            await self._receive(body, folder / UPLOAD)
        except BaseException:
            self._count -= 1
            if folder is not None:
                await remove(folder)
            raise
        # a task, so that the folder is removed even if no reader begins
        steps = asyncio.Queue[BuildStep | None]()
        order = BuildOrder(folder / UPLOAD, folder, namespace)
        task = self._tasks.spawn(f"build {folder.name}", self._run(order, steps))
        return _follow(task, steps)

    def _make_folder(self) -> Path:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return Path(tempfile.mkdtemp(prefix=PREFIX, dir=self._folder))
        except OSError as error:
            raise _disk_error(self._folder, error) from error

    async def _receive(self, body: AsyncIterator[bytes], path: Path) -> None:
        try:
            async with asyncio.timeout(UPLOAD_SECONDS):
                await write_new(path, body, self._max_upload, "upload")
        except TimeoutError:
            raise TooSlow(f"the upload took longer than {UPLOAD_SECONDS:g} seconds") from None
        except OSError as error:
            raise _disk_error(path, error) from error

    async def _run(self, order: BuildOrder, steps: asyncio.Queue[BuildStep | None]) -> None:
        work, most = _Work(self._builder, self._images, steps), self._builder.limits.seconds
        try:
            if self._places.locked():
                work.say("waiting for other builds to end")
            async with self._places, asyncio.timeout(most):
                await work.run(order)
        except RescoldoError as error:
            work.fail(error.message)
        except TimeoutError:
            work.fail(f"the build took longer than {most:g} seconds")
        except Exception:
            work.fail("internal error: see the log of `rescoldo serve`")
            raise
        finally:
            try:
                await remove(order.folder)
            finally:
                self._count -= 1
                steps.put_nowait(None)


class _Work:
    """One running build. It is the builder's `BuildReport`."""

    def __init__(self, builder: Builder, images: Images, steps: asyncio.Queue[BuildStep | None]) -> None:
        self._builder = builder
        self._images = images
        self._steps = steps
        self._image = ""

    def name(self, image: str) -> None:
        self._image = image

    def say(self, line: str) -> None:
        self._steps.put_nowait(BuildStep("in_progress", self._image, line))

    def fail(self, error: str) -> None:
        log.info("build of %s failed: %s", one_line(self._image) or "an image", one_line(error))
        self._steps.put_nowait(BuildStep("failed", self._image, error=error))

    async def run(self, order: BuildOrder) -> None:
        built = await self._builder.build(order, self)
        if built.layer is not None:
            await self._images.add_layer(_chunks(built.layer), None)
        bundle = await self._images.add(self._image, _chunks(built.bundle), None)
        self.say(f"built, {bundle.size} bytes, {bundle.digest[:12]}; the image is kept here, nothing is pushed")
        log.info("built %s, %s", one_line(self._image), bundle.digest[:12])
        self._steps.put_nowait(BuildStep("success", self._image))


async def _follow(task: asyncio.Task[None], steps: asyncio.Queue[BuildStep | None]) -> AsyncGenerator[BuildStep, None]:
    try:
        while (step := await steps.get()) is not None:
            yield step
    finally:
        task.cancel()


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while data := await asyncio.to_thread(file.read, CHUNK):
            yield data


def _disk_error(path: Path, error: OSError) -> StoreError:
    return StoreError(f"{path}: {error.strerror or error}: check the folder's owner and mode and the disk")
