"""The secrets by which a worker's edge knows its cluster's gateways: a file of a mounted Secret, and HAProxy's map.

kubelet replaces the file when the Secret changes. All secrets in it are accepted, so that a new one can be introduced
before the old one is dropped. The edge reads them from its start on, whether a controller runs or not.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from rescoldo.edge.admin import AdminSocket
from rescoldo.model.errors import EdgeUnavailable, InvalidInput
from rescoldo.model.proof import is_proof

LOOK_SECONDS = 2.0  # between two comparisons of the file with the edge's map: one command of 0.1 ms

log = logging.getLogger(__name__)


def read_pool(file: Path) -> frozenset[str]:
    """Read the secrets. Raises InvalidInput unless each line is one, and there is one at least."""
    try:
        lines = frozenset(line for line in map(str.strip, file.read_text().splitlines()) if line)
    except (OSError, ValueError) as error:
        raise InvalidInput(f"--identity: the pool's secrets in {file} cannot be read: {error}") from error
    if not lines or not all(map(is_proof, lines)):
        raise InvalidInput(
            f"--identity: {file} must have a secret a line, each of 16 to 512 letters, digits and .~+/=_-"
        )
    return lines


def write_pool(map_path: Path, file: Path | None) -> None:
    """Write the map with which a new process of the edge begins. It stays as it is while the secrets cannot be read;
    without a file it is empty: the platform is no worker, and the map is not read."""
    map_path.touch(0o600)
    if file is None:
        return
    try:
        map_path.write_text("".join(f"{secret} 1\n" for secret in sorted(read_pool(file))))
    except InvalidInput as error:
        log.error("the edge keeps the pool's secrets: %s", error.message)


class PoolSecrets:
    """Keeps the map of a running edge as the file is."""

    def __init__(self, file: Path, admin: AdminSocket, map_path: Path) -> None:
        self._file = file
        self._admin = admin
        self._map = map_path

    async def run(self) -> None:
        """Compare every LOOK_SECONDS, until cancelled."""
        problem = ""  # the last one that was logged
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self.look()
                problem = ""
            except EdgeUnavailable:  # the next process reads the file itself
                pass
            except InvalidInput as error:
                if error.message != problem:
                    log.error("the edge keeps the pool's secrets: %s", error.message)
                problem = error.message

    async def look(self) -> None:
        """Tell the edge what the file has. Raises EdgeUnavailable; InvalidInput when it must keep its secrets."""
        wanted = dict.fromkeys(read_pool(self._file), "1")
        if await self._admin.map(self._map) != wanted:
            await self._admin.replace_map(self._map, wanted)
            log.info("the edge has other secrets of the pool: %d", len(wanted))
