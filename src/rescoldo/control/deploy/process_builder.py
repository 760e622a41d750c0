"""Builds in a process of their own beside the controller (building.py)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from rescoldo.bundle.builder import BuildLimits, BuildOrder, BuildReport, BuiltFiles
from rescoldo.model.errors import BuildFailed
from rescoldo.model.text import read_json

GRACE = 5.0  # seconds a build gets to end its children
LINE = 2**17  # bytes; the longest line from building.py
MOST_CACHED = 40  # files and folders; a larger cache is emptied
TREE, OUT = "tree", "out"  # in a build's folder
CACHE = "requirements"


class ProcessBuilder:
    """A `Builder` on this machine. Packages that it installed from the index stay for later builds."""

    def __init__(self, folder: Path, limits: BuildLimits = BuildLimits()) -> None:  # noqa: B008  it is frozen
        """`folder` has the builds' own folders, and gets the cache."""
        self.limits = limits
        self._cache = folder / CACHE
        self._running = 0

    def check(self, namespace: str) -> None:
        """Implements `Builder`: a build belongs to no namespace here."""

    async def prepare(self) -> None:
        for left in self._cache.glob("install-*"):
            await remove(left)

    async def build(self, order: BuildOrder, report: BuildReport) -> BuiltFiles:
        async with self._alone_in_cache():
            return await self._process(order, report)

    @contextlib.asynccontextmanager
    async def _alone_in_cache(self) -> AsyncIterator[None]:
        """Keep the cache small: a build that runs alone empties a cache that has grown too large."""
        self._running += 1
        try:
            if self._running == 1 and len(list(self._cache.glob("*"))) > MOST_CACHED:
                await remove(self._cache)
            yield
        finally:
            self._running -= 1

    async def _process(self, order: BuildOrder, report: BuildReport) -> BuiltFiles:
        places = (order.upload, order.folder / TREE, order.folder / OUT, self._cache)
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
                    return BuiltFiles(Path(message["built"]), Path(message["layer"]) if message["layer"] else None)
                _take(message, report)
            raise BuildFailed(f"the build's process ended with exit status {await process.wait()}")
        finally:
            await _end(process)


def _take(message: dict[str, Any], report: BuildReport) -> None:
    if "failed" in message:
        raise BuildFailed(message["failed"])
    if "image" in message:
        report.name(message["image"])
    if "log" in message:
        report.say(message["log"])


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


async def remove(folder: Path) -> None:
    """Remove a folder of builds."""
    # shielded: a cancelled build must be cleaned up, too
    await asyncio.shield(asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True))
