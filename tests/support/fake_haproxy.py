"""The Runtime API of a gateway's HAProxy, in memory: servers, maps, restarts. Checks pass at once; sessions are what a
test says. tests/contract/test_gateway_admin.py compares it with a real one."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass

from rescoldo.edge.admin import MapCommands
from rescoldo.gateway import config
from rescoldo.gateway.config import GatewaySettings
from rescoldo.model.errors import EdgeUnavailable

MAINT, DRAIN = 0x01, 0x08  # of srv_admin_state
_LINE = re.compile(r"(?P<ip>\S+):(?P<port>\d+) id (?P<id>\d+) .*\bcheck port (?P<check>\d+)\b")


@dataclass(slots=True)
class FakeServer:
    """A server as HAProxy has it."""

    ip: str
    port: str
    check_port: str
    id: str
    flags: int
    down: bool = False
    ramping: bool = False
    sessions: int = 0


class FakeHaproxy(MapCommands):
    """Implements `Admin`. Begins with what the files of `settings` have, as a real one does."""

    def __init__(self, settings: GatewaySettings) -> None:
        self.commands: list[str] = []  # all but questions
        self.servers: dict[str, FakeServer] = {}  # by POOL/POD
        self.maps: dict[str, dict[str, str]] = {}  # by file
        self.refused: set[str] = set()  # servers that cannot be added
        self.settings = settings
        self._prepared: dict[str, tuple[str, dict[str, str]]] = {}  # by version
        self._pid = 0
        self._ended = asyncio.Event()
        self._away = True
        self.start()

    # what a test does

    def start(self) -> None:
        """Begin, with the files as they are."""
        self.servers = dict(_of_file(self.settings.pools_file.read_text()))
        for name in config.MAPS:
            self.maps[str(self.settings.map_file(name))] = config.read_map(self.settings, name)
        self._pid += 1
        self._away = False
        self._ended = asyncio.Event()

    def kill(self) -> None:
        """End; `start` begins anew."""
        self._away = True
        self._ended.set()

    def table(self, name: str) -> dict[str, str]:
        return self.maps[str(self.settings.map_file(name))]

    def ready(self) -> set[str]:
        """The servers that get new calls."""
        return {name for name, server in self.servers.items() if not server.flags}

    # what it answers

    async def run(self, *commands: str) -> str:
        if self._away:
            raise EdgeUnavailable
        return "".join(self._answer(command) + "\n" for command in commands)

    async def payload(self, command: str, lines: list[str]) -> str:
        if self._away:
            raise EdgeUnavailable
        version = command.split()[2].removeprefix("@")
        self._prepared[version][1].update(line.split(" ", 1) for line in lines)
        return "\n"

    async def wait_closed(self) -> None:
        if self._away:
            raise EdgeUnavailable
        await self._ended.wait()

    def _answer(self, command: str) -> str:
        match command.split():
            case ["show", "info"]:
                return f"Name: HAProxy\nPid: {self._pid}\n"
            case ["show", "servers", "state"]:
                return "1\n# be_id be_name …\n" + "".join(_state_row(name, s) for name, s in self.servers.items())
            case ["show", "servers", "conn"]:
                rows = (f"{name} 1/{s.id} {s.ip} {s.port} - 5000 {s.sessions} 0\n" for name, s in self.servers.items())
                return "# bkname/svname bkid/svid …\n" + "".join(rows)
            case ["show", "map", path]:
                return "".join(f"0x1 {key} {value}\n" for key, value in self.maps[path].items())
        self.commands.append(command)
        return self._change(command)

    def _change(self, command: str) -> str:
        match command.split():
            case ["prepare", "map", path]:
                version = str(len(self._prepared) + 1)
                self._prepared[version] = (path, {})
                return f"New version created: {version}"
            case ["commit", "map", version, path]:
                self.maps[path] = self._prepared.pop(version.removeprefix("@"))[1]
            case ["add", "server", name, *_]:
                if name in self.refused:
                    return "'server' expects server's address."
                if name in self.servers:
                    return "Already exists a server with the same name in backend."
                self.servers[name] = _server(command.partition(name)[2].strip(), MAINT)
                return "New server registered."
            case ["enable" | "set" | "del", _, name, *_] if name not in self.servers:
                return "No such server."
            case ["enable", "health", name]:
                self.servers[name].down = False
            case ["set", "server", name, "health", "down"]:
                self.servers[name].down = True
            case ["set", "server", name, "state", state]:
                self.servers[name].flags = {"ready": 0, "drain": DRAIN, "maint": MAINT}[state]
            case ["del", "server", name]:
                if not self.servers[name].flags & MAINT or self.servers[name].sessions:
                    return "Server still has connections attached to it, cannot remove it."
                del self.servers[name]
                return "Server deleted."
            case _:
                return "Unknown command."
        return ""


def _state_row(name: str, server: FakeServer) -> str:
    pool, _, pod = name.partition("/")
    row = ["-"] * 25
    row[1:5] = pool, server.id, pod, server.ip
    row[5:7] = "0" if server.down else "1" if server.ramping else "2", str(server.flags)
    row[18], row[21] = server.port, server.check_port
    return " ".join(row) + "\n"


def _server(line: str, flags: int) -> FakeServer:
    found = _LINE.match(line)
    assert found, line
    return FakeServer(found["ip"], found["port"], found["check"], found["id"], flags)


def _of_file(text: str) -> Iterator[tuple[str, FakeServer]]:
    pool = ""
    for line in text.splitlines():
        match line.split():
            case ["backend", name, *_]:
                pool = name
            case ["server", name, *_]:
                yield f"{pool}/{name}", _server(line.partition(name)[2].strip(), 0)
