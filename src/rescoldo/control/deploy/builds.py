"""Builds for faas-cli: an upload becomes an image's bundle, in a process of its own (building.py).

Each build has a folder, which is removed however the build ends. Packages that it installed from the index stay
for later builds.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rescoldo.control.deploy.images import Images
from rescoldo.model.errors import BuildFailed, Busy, RescoldoError, StoreError, TooLarge, TooSlow
from rescoldo.model.settings import Settings
from rescoldo.model.text import one_line, read_json
from rescoldo.tasks import Tasks

MAX_UPLOAD = 64 * 2**20  # bytes; never more than `max_system_body`
UPLOAD_SECONDS = 300.0
BUILD_SECONDS = 900.0
MOST_BUILDS = 12  # received, waiting or running: each has an upload on the disk
MOST_RUNNING = 2
GRACE = 5.0  # seconds a build gets to end its children
LINE = 2**17  # bytes; the longest line from building.py
CHUNK = 2**20  # bytes read at once
MOST_CACHED = 40  # files and folders; a larger cache is emptied
RETRY_SECONDS = 10.0
PREFIX = "build-"
UPLOAD, TREE, OUT = "upload.tar", "tree", "out"  # in a build's folder
CACHE = "requirements"

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

    def __init__(self, settings: Settings, images: Images, tasks: Tasks) -> None:
        self._folder = settings.builds
        self._max_upload = min(MAX_UPLOAD, settings.max_system_body)
        self._images = images
        self._tasks = tasks
        self._count = 0  # builds received, waiting or running
        self._running = 0
        self._places = asyncio.Semaphore(MOST_RUNNING)

    async def prepare(self) -> None:
        """Remove the leftovers of an earlier process. Call it once, at the start."""
        for left in [*self._folder.glob(f"{PREFIX}*"), *(self._folder / CACHE).glob("install-*")]:
            await _remove(left)

    async def build(self, body: AsyncIterator[bytes]) -> AsyncGenerator[BuildStep, None]:
        """See api.protocol.Builds."""
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
                await _remove(folder)
            raise
        # a task, so that the folder is removed even if no reader begins
        steps = asyncio.Queue[BuildStep | None]()
        task = self._tasks.spawn(f"build {folder.name}", self._run(folder, steps))
        return _follow(task, steps)

    def _make_folder(self) -> Path:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return Path(tempfile.mkdtemp(prefix=PREFIX, dir=self._folder))
        except OSError as error:
            raise _disk_error(self._folder, error) from error

    async def _receive(self, body: AsyncIterator[bytes], path: Path) -> None:
        size = 0
        try:
            async with asyncio.timeout(UPLOAD_SECONDS):
                with path.open("xb") as file:
                    async for chunk in body:
                        size += len(chunk)
                        if size > self._max_upload:
                            raise TooLarge(f"the upload is larger than the {self._max_upload} bytes allowed")
                        await asyncio.to_thread(file.write, chunk)
        except TimeoutError:
            raise TooSlow(f"the upload took longer than {UPLOAD_SECONDS:g} seconds") from None
        except OSError as error:
            raise _disk_error(path, error) from error

    async def _run(self, folder: Path, steps: asyncio.Queue[BuildStep | None]) -> None:
        work = _Work(folder, self._folder / CACHE, self._images, steps)
        try:
            if self._places.locked():
                work.say("waiting for other builds to end")
            async with self._places, self._alone_in_cache(), asyncio.timeout(BUILD_SECONDS):
                await work.run()
        except RescoldoError as error:
            work.fail(error.message)
        except TimeoutError:
            work.fail(f"the build took longer than {BUILD_SECONDS:g} seconds")
        except Exception:
            work.fail("internal error: see the log of `rescoldo serve`")
            raise
        finally:
            try:
                await _remove(folder)
            finally:
                self._count -= 1
                steps.put_nowait(None)

    @contextlib.asynccontextmanager
    async def _alone_in_cache(self) -> AsyncIterator[None]:
        """Keep the cache small: a build that runs alone empties a cache that has grown too large."""
        cache = self._folder / CACHE
        self._running += 1
        try:
            if self._running == 1 and len(list(cache.glob("*"))) > MOST_CACHED:
                await _remove(cache)
            yield
        finally:
            self._running -= 1


class _Work:
    """One running build."""

    def __init__(
        self, folder: Path, cache: Path, images: Images, steps: asyncio.Queue[BuildStep | None]
    ) -> None:
        self._folder = folder
        self._cache = cache
        self._images = images
        self._steps = steps
        self._image = ""

    def say(self, line: str) -> None:
        self._steps.put_nowait(BuildStep("in_progress", self._image, line))

    def fail(self, error: str) -> None:
        log.info("build of %s failed: %s", one_line(self._image) or "an image", one_line(error))
        self._steps.put_nowait(BuildStep("failed", self._image, error=error))

    async def run(self) -> None:
        bundle_file, layer = await self._process()
        if layer is not None:
            await self._images.add_layer(_chunks(layer), None)
        bundle = await self._images.add(self._image, _chunks(bundle_file), None)
        self.say(f"built, {bundle.size} bytes, {bundle.digest[:12]}; the image is kept here, nothing is pushed")
        log.info("built %s, %s", one_line(self._image), bundle.digest[:12])
        self._steps.put_nowait(BuildStep("success", self._image))

    async def _process(self) -> tuple[Path, Path | None]:
        """Run building.py; return the paths of the bundle and of its layer. Raises BuildFailed."""
        places = (*(self._folder / name for name in (UPLOAD, TREE, OUT)), self._cache)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "rescoldo.control.deploy.building", *map(str, places)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            cwd="/",
            start_new_session=True,  # `_end` kills the whole group
            limit=LINE,
        )
        try:
            assert process.stdout is not None
            async for line in process.stdout:
                message = read_json(line)
                if "built" in message:
                    return Path(message["built"]), Path(message["layer"]) if message["layer"] else None
                self._take(message)
            raise BuildFailed(f"the build's process ended with exit status {await process.wait()}")
        finally:
            await _end(process)

    def _take(self, message: dict[str, Any]) -> None:
        if "failed" in message:
            raise BuildFailed(message["failed"])
        self._image = message.get("image", self._image)
        if "log" in message:
            self.say(message["log"])


async def _follow(task: asyncio.Task[None], steps: asyncio.Queue[BuildStep | None]) -> AsyncGenerator[BuildStep, None]:
    try:
        while (step := await steps.get()) is not None:
            yield step
    finally:
        task.cancel()


async def _end(process: asyncio.subprocess.Process) -> None:
    """End the process if it runs: first with SIGTERM, so that it can end its children, then by force."""
    with contextlib.suppress(ProcessLookupError):
        if process.returncode is None:
            process.terminate()
        try:
            async with asyncio.timeout(GRACE):
                await process.wait()
        except TimeoutError:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while data := await asyncio.to_thread(file.read, CHUNK):
            yield data


async def _remove(folder: Path) -> None:
    # shielded: a cancelled build must be cleaned up, too
    await asyncio.shield(asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True))


def _disk_error(path: Path, error: OSError) -> StoreError:
    return StoreError(f"{path}: {error.strerror or error}: check the folder's owner and mode and the disk")
