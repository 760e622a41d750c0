"""HAProxy's Runtime API over its Unix socket: one connection for each batch of commands; its end ends the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from rescoldo.model.errors import EdgeUnavailable

TIMEOUT = 5.0  # seconds; the slowest command (a map of 10,000) takes a few milliseconds
CONNECTIONS = 8  # at once: HAProxy runs commands one after another anyway, and refuses too many connections
MAX_PAYLOAD = 12_000  # bytes of one command: HAProxy reads it into a buffer of 16 KiB


class MapCommands:
    """Reads and replaces the maps of whatever runs HAProxy's commands."""

    async def run(self, *commands: str) -> str:
        """See AdminSocket."""
        raise NotImplementedError

    async def payload(self, command: str, lines: list[str]) -> str:
        """See AdminSocket."""
        raise NotImplementedError

    async def map(self, path: Path) -> dict[str, str]:
        """Return what the process has of a map. Raises EdgeUnavailable."""
        # each line: address, key, value
        rows = [line.split(" ", 2) for line in (await self.run(f"show map {path}")).splitlines()]
        return {row[1]: row[2] for row in rows if len(row) == 3}

    async def replace_map(self, path: Path, table: Mapping[str, str]) -> None:
        """Replace a map's content at once. Raises EdgeUnavailable."""
        answer = await self.run(f"prepare map {path}")
        version = answer.rpartition(":")[2].strip()
        if not version.isdigit():
            raise EdgeUnavailable(f"HAProxy has no map {path}: {answer.strip()}")
        await self.payload(f"add map @{version} {path}", [f"{key} {value}" for key, value in table.items()])
        await self.run(f"commit map @{version} {path}")


class AdminSocket(MapCommands):
    """Runs commands on HAProxy's admin socket, at most CONNECTIONS batches at once."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self._gate = asyncio.Semaphore(CONNECTIONS)

    async def run(self, *commands: str) -> str:
        """Run commands in order; return their answers, concatenated. Raises EdgeUnavailable."""
        try:
            async with self._gate, asyncio.timeout(TIMEOUT):
                return await self._exchange("; ".join(commands) + "\n")
        except (OSError, TimeoutError) as error:
            raise EdgeUnavailable from error

    async def payload(self, command: str, lines: list[str]) -> str:
        """Run a command that takes lines (`add map FILE <<`), in batches of at most MAX_PAYLOAD bytes."""
        answers = []
        batch: list[str] = []
        size = 0
        for line in [*lines, ""]:  # the empty line sends the last batch
            if batch and (not line or size + len(line) > MAX_PAYLOAD):
                answers.append(await self.run(f"{command} <<\n" + "\n".join(batch) + "\n"))
                batch, size = [], 0
            batch.append(line)
            size += len(line) + 1
        return "".join(answers)

    async def wait_closed(self) -> None:
        """Return when the process that answers now has ended. Raises EdgeUnavailable when none answers."""
        try:
            reader, writer = await asyncio.open_unix_connection(self._path)
        except OSError as error:
            raise EdgeUnavailable from error
        try:
            writer.write(b"prompt\n")
            while await reader.read(4096):
                pass
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def _exchange(self, text: str) -> str:
        reader, writer = await asyncio.open_unix_connection(self._path)
        try:
            writer.write(text.encode())
            return (await reader.read(-1)).decode(errors="replace")
        finally:
            writer.close()
