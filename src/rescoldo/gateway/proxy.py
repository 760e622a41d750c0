"""A gateway's HAProxy over its Runtime API: its servers, its maps, its restarts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Protocol

from rescoldo.gateway.config import GatewaySettings, pool_names
from rescoldo.gateway.servers import Present, Server, ServerKey, plan, read_servers, read_sessions, remove
from rescoldo.model.errors import EdgeUnavailable

log = logging.getLogger(__name__)

RECONNECT_SECONDS = 0.02
# what HAProxy says to `add server` and `del server`; to `enable health` and `set server` it says nothing
ADDED, REMOVED = "New server registered", "Server deleted"


class Admin(Protocol):
    """HAProxy's admin socket. Every method raises EdgeUnavailable when none answers."""

    async def run(self, *commands: str) -> str:
        """Run commands in order; return their answers, concatenated."""
        ...

    async def payload(self, command: str, lines: list[str]) -> str:
        """Run a command that takes lines."""
        ...

    async def map(self, path: Path) -> dict[str, str]:
        """Return what the process has of a map."""
        ...

    async def replace_map(self, path: Path, table: Mapping[str, str]) -> None:
        """Replace a map's content at once."""
        ...

    async def wait_closed(self) -> None:
        """Return when the process that answers now has ended."""
        ...


class Proxy:
    """Brings the servers and maps of a running HAProxy to those wanted. Every method raises EdgeUnavailable."""

    def __init__(self, settings: GatewaySettings, admin: Admin) -> None:
        self._settings = settings
        self._admin = admin
        self._pools = frozenset(pool_names(settings))

    async def servers(self) -> list[Present]:
        """The servers of all pools."""
        return read_servers(await self._admin.run("show servers state"), self._pools)

    async def set_servers(self, wanted: Collection[Server]) -> bool:
        """Add, drain and remove servers; return whether some remain that are to be removed once their sessions end.

        What HAProxy refuses is logged, and tried again by the next call: one pod must not keep others away.
        """
        steps = plan(await self.servers(), wanted, self._settings.slowstart, str(self._settings.authority_file))
        for batch in steps.batches:
            answer = (await self._admin.run(*batch)).strip()
            if answer.removeprefix(ADDED).strip(" .\n"):
                log.error("the gateway's HAProxy refused %r: %s", batch[0], answer)
        return bool(steps.leaving) and await self._remove(steps.leaving)

    async def _remove(self, leaving: Iterable[ServerKey]) -> bool:
        """Remove those without sessions; return whether others remain."""
        sessions = read_sessions(await self._admin.run("show servers conn"))
        remain = False
        for key in sorted(leaving):
            if sessions.get(key, 0) or REMOVED not in await self._admin.run(*remove(key)):
                remain = True
        return remain

    async def map(self, name: str) -> dict[str, str]:
        """What HAProxy has of a map."""
        return await self._admin.map(self._settings.map_file(name))

    async def set_control(self, address: str, port: int) -> None:
        """Let requests for control go to this address; nothing happens if they do already."""
        server = "set server control/api"
        await self._admin.run(f"{server} addr {address} port {port}", f"{server} state ready")

    async def set_map(self, name: str, values: Mapping[str, str]) -> None:
        """Replace a map at once, if it differs."""
        if await self.map(name) == values:
            return
        await self._admin.replace_map(self._settings.map_file(name), values)

    async def watch(self, on_start: Callable[[], None]) -> None:
        """Call `on_start` for each process of HAProxy that answers. Never ends."""
        seen = ""
        while True:
            try:
                if (process := await self._process()) != seen:
                    seen = process
                    on_start()
                await self._admin.wait_closed()
            except EdgeUnavailable:
                pass
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _process(self) -> str:
        """The line of `show info` with the pid of the process that answers."""
        for line in (await self._admin.run("show info")).splitlines():
            if line.startswith("Pid:"):
                return line
        raise EdgeUnavailable

    async def calls(self) -> int:
        """How many calls of functions are at workers."""
        # columns of `show stat`: pxname, svname, qcur, qmax, scur
        rows = [line.split(",", 5) for line in (await self._admin.run("show stat -1 2 -1")).splitlines()]
        return sum(int(row[4]) for row in rows if row[0] in self._pools)

    async def begin_draining(self) -> None:
        """Answer 404 to health checks from now on, and close each client's connection with its next response."""
        # HAProxy calls variables of the process experimental, for this connection alone
        answer = await self._admin.run(
            "experimental-mode on", "set var proc.draining bool(true)", "get var proc.draining"
        )
        if "value=<1>" not in answer:
            raise EdgeUnavailable(f"the gateway's HAProxy does not drain: {answer.strip()}")
