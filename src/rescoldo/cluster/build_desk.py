"""What a build's pod gets from control and gives to it, while the build runs.

Packages' code runs in that pod, so whatever comes from it may be hostile: it is bounded here, and what it sends becomes
the bundle of this build or nothing. Which build that is says the certificate of the connection (api/link_builds.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

from rescoldo.bundle.bounded import write_new
from rescoldo.bundle.builder import BuildOrder, BuildReport, BuiltFiles
from rescoldo.model.errors import BuildFailed, Conflict, InvalidInput, StoreError, TooLarge
from rescoldo.model.text import read_json, uncoloured

Part = Literal["bundle", "layer"]

MOST_LINE = 2**17  # bytes of a message
MOST_TEXT = 3000  # characters of a line for the client, which stops at a line of JSON of 64 KiB
MOST_LOG = 2 * 2**20  # bytes of all messages; building.py sends half of it


class BuildDesk:
    """Serves the pod of one build. `built` is set when its bundle is here, or it has said why there is none."""

    def __init__(self, order: BuildOrder, report: BuildReport, most: int) -> None:
        """`most`: bytes of a bundle, and of a layer."""
        self.built: asyncio.Future[BuiltFiles] = asyncio.get_running_loop().create_future()
        self.archive = order.upload
        self._folder, self._report, self._most = order.folder, report, most
        self._room = MOST_LOG
        self._parts: dict[Part, Path] = {}  # that are here whole

    async def listen(self, body: AsyncIterator[bytes]) -> None:
        """Take messages, one JSON object a line, as they come. Raises InvalidInput, TooLarge."""
        rest = b""
        async for chunk in body:
            self._room -= len(chunk)
            if self._room < 0:
                raise TooLarge(f"a build's messages may have {MOST_LOG} bytes in all")
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._take(line)
            if len(rest) > MOST_LINE:
                raise TooLarge(f"a build's message may have {MOST_LINE} bytes")

    async def receive(self, part: Part, body: AsyncIterator[bytes]) -> None:
        """Take a file; the bundle is the last one. Raises Conflict for a second one, TooLarge, StoreError."""
        path = self._folder / f"{part}.tar.gz"
        try:
            await write_new(path, body, self._most, part)
        except FileExistsError as error:
            raise Conflict(f"this build has sent its {part} already") from error
        except OSError as error:
            raise StoreError(f"{path}: {error.strerror or error}: check the disk") from error
        self._parts[part] = path
        if part == "bundle" and not self.built.done():
            self.built.set_result(BuiltFiles(path, self._parts.get("layer")))

    def _take(self, line: bytes) -> None:
        try:
            message = read_json(line)
        except ValueError as error:
            raise InvalidInput(f"a build's message is no JSON: {error}") from error
        if not isinstance(message, dict):
            raise InvalidInput("a build's message must be an object")
        if self.built.done():
            return
        if "log" in message:
            self._report.say(_shown(message["log"]))
        elif "failed" in message:
            self.built.set_exception(BuildFailed(_shown(message["failed"])))


def _shown(text: Any) -> str:
    return uncoloured(str(text)[:MOST_TEXT])
