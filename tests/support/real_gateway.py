"""Runs a real gateway's HAProxy for tests; workers and control are stubs in asyncio, each worker at a loopback address
of its own."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import socket
import ssl
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rescoldo.edge import process
from rescoldo.edge.admin import AdminSocket
from rescoldo.gateway import config
from rescoldo.gateway.config import GatewaySettings
from rescoldo.gateway.proxy import Proxy
from rescoldo.gateway.servers import Place, PoolName, Server, ServerKey
from rescoldo.model.errors import EdgeUnavailable
from support.patience import until
from support.ports import free_ports
from support.real_edge import Client, Message, ok, read_message

P0 = PoolName("p0")
_numbers = itertools.count(2 + 2000 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")))

Respond = Callable[[Message], Awaitable[bytes | None]]


@dataclass(eq=False)
class Worker:
    """A stub worker: answers calls with its name or the result of `respond` (None: closes without an answer)."""

    name: str
    place: Place
    respond: Respond | None = None
    health: int = 200  # status of its checks
    tls: ssl.SSLContext | None = None
    requests: list[Message] = field(default_factory=list)
    _servers: list[asyncio.Server] = field(default_factory=list)
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)
    _silent: socket.socket | None = None
    _waiting: socket.socket | None = None

    async def start(self) -> None:
        for port, serve, tls in (
            (self.place.port, self._serve, self.tls), (self.place.check_port, self._serve_checks, None),
        ):  # fmt: skip
            self._servers.append(await asyncio.start_server(serve, self.place.ip, port, backlog=4096, ssl=tls))

    def crash(self) -> None:
        """End all connections and refuse new ones."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        for writer in list(self._writers):
            writer.transport.abort()

    def refuse_checks(self) -> None:
        """Refuse connections for checks; calls go on."""
        self._servers.pop().close()

    def fall_silent(self) -> None:
        """End all connections; let new ones wait, as if the network did not carry them any more."""
        self.crash()
        self._silent = socket.create_server((self.place.ip, self.place.port), backlog=0)
        self._waiting = socket.create_connection((self.place.ip, self.place.port))  # no room is left

    def close(self) -> None:
        self.crash()
        for sock in (self._waiting, self._silent):
            if sock is not None:
                sock.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while True:
                request = await read_message(reader)
                self.requests.append(request)
                answer = await self.respond(request) if self.respond else ok(self.name)
                if answer is None:
                    return
                writer.write(answer)
                await writer.drain()
                if request.headers.get("connection") == "close":
                    return
        except ConnectionError:
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _serve_checks(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            await read_message(reader)
            writer.write(f"HTTP/1.1 {self.health} Checked\r\nContent-Length: 0\r\n\r\n".encode())
            await writer.drain()
        except ConnectionError:
            pass
        finally:
            self._writers.discard(writer)
            writer.close()


class RealGateway:
    """HAProxy in a folder of its own, without an agent; `proxy` tells it its servers and maps."""

    def __init__(self, *, authority: str = "", **values: Any) -> None:
        """`authority`: certificate (PEM) of the authority of workers that speak TLS."""
        self.authority = authority
        self.folder = Path(tempfile.mkdtemp(prefix="rg-", dir="/tmp"))
        gateway, self._control_port, port, check_port = free_ports(4)
        self.settings = GatewaySettings(
            **{
                "folder": self.folder / "gateway", "control": f"127.0.0.1:{self._control_port}",
                "address": f"127.0.0.1:{gateway}", "pools": 4, "worker_port": port, "check_port": check_port, **values,
            }
        )  # fmt: skip
        self.admin = AdminSocket(self.settings.admin_socket)
        self.proxy = Proxy(self.settings, self.admin)
        self.control = Worker("control", Place("127.0.0.1", self._control_port, free_ports(1)[0]))
        self.process: asyncio.subprocess.Process | None = None
        self.workers: dict[str, Worker] = {}
        self.server_list: list[Server] = []  # as `place` left it
        self._clients: list[Client] = []

    async def __aenter__(self) -> RealGateway:
        try:
            config.write(self.settings, self.authority)
            await self.control.start()
            await self.start()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Start HAProxy from its files."""
        binary = process.binary()
        self.process = await asyncio.create_subprocess_exec(
            *config.command(binary, self.settings),
            env={**os.environ, **process.environment(binary)},
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        await until(self.answers)

    async def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        await self.process.wait()

    async def close(self) -> None:
        for client in self._clients:
            client.close()
        if self.process is not None and self.process.returncode is None:
            await self.kill()
        for worker in [self.control, *self.workers.values()]:
            worker.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    async def answers(self) -> bool:
        try:
            await self.proxy.servers()
        except EdgeUnavailable:
            return False
        return True

    async def know(self, pools: Mapping[str, str], secrets: Mapping[str, str] = {}, control: str = "") -> None:
        """Set the maps as an agent does that has heard of all workers."""
        await self.proxy.set_map(config.POOLS, {**pools, "*": "1"})
        await self.proxy.set_map(config.SECRETS, secrets)
        await self.proxy.set_map(config.CONTROL, {control: "1"} if control else {})

    async def worker(self, name: str, respond: Respond | None = None, tls: ssl.SSLContext | None = None) -> Worker:
        """Start a worker that no gateway knows yet."""
        number = next(_numbers)
        ip = f"127.0.{number // 250}.{number % 250 + 2}"
        place = Place(ip, self.settings.worker_port, self.settings.check_port, tls is not None)
        worker = self.workers[name] = Worker(name, place, respond, tls=tls)
        await worker.start()
        return worker

    async def place(self, *names: str, pool: PoolName = P0) -> None:
        """Make these workers, in this order, the servers of a pool, and wait until they have all of their functions."""
        there = [server for server in self.server_list if server.key.pool != pool]
        self.server_list = [*there, *(self.server(name, pool) for name in names)]
        for count in range(len(self.server_list)):  # one after another: the order in which HAProxy hears of them
            await self.proxy.set_servers(self.server_list[: count + 1])
        await until(self.steady)

    def server(self, name: str, pool: PoolName = P0, *, draining: bool = False) -> Server:
        return Server(ServerKey(pool, name), self.workers[name].place, draining)

    async def steady(self) -> bool:
        """Whether all servers that are not to drain are up, at their full weight."""
        rows = [row for row in await self.stat() if not row["status"].startswith(("DRAIN", "NOLB", "MAINT"))]
        return all(row["status"] == "UP" and row["weight"] == "100" for row in rows)

    async def stat(self) -> list[dict[str, str]]:
        """The rows of `show stat` of pools' servers."""
        head, *lines = (await self.admin.run("show stat -1 4 -1")).splitlines()
        names = head.removeprefix("# ").split(",")
        return [dict(zip(names, line.split(","), strict=False)) for line in lines if line.startswith("p")]

    async def status(self, name: str) -> str:
        """What HAProxy thinks of a worker: UP, DOWN, NOLB, DRAIN; empty if it has none."""
        return next((row["status"] for row in await self.stat() if row["svname"] == name), "")

    def calls_of_control(self) -> list[Message]:
        """The requests that control got, but for checks."""
        return [request for request in self.control.requests if request.path != "/healthz"]

    async def connect(self) -> Client:
        host, _, port = self.settings.address.rpartition(":")
        client = Client(*await asyncio.open_connection(host, int(port)))
        self._clients.append(client)
        return client

    async def call(self, path: str, **request: Any) -> Message:
        """Make one request on a new connection."""
        client = await self.connect()
        try:
            return await client.call(path, **request)
        finally:
            client.close()

    async def owners(self, count: int, namespace: str = "blue") -> dict[str, str]:
        """The worker that answers for each of `count` functions."""
        client = await self.connect()
        names = [f"fn-{number}.{namespace}" for number in range(count)]
        return {name: (await client.call(f"/function/{name}")).text for name in names}
