"""Runs a real HAProxy with the shipped configuration for tests; controller and instances are stubs in asyncio."""

from __future__ import annotations

import asyncio
import re
import shutil
import signal
import socket
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rescoldo.edge import config, process
from rescoldo.edge.accesslog import Tally, read_calls
from rescoldo.edge.admin import AdminSocket
from rescoldo.edge.haproxy import HaproxyEdge
from rescoldo.edge.protocol import LiveServer
from rescoldo.model.calls import CallKey, CallSums, FailedCall
from rescoldo.model.coldstart import ColdCall, StartTimes
from rescoldo.model.errors import EdgeUnavailable, RescoldoError
from rescoldo.model.names import FunctionId, InstanceId, SlotName
from rescoldo.model.settings import Settings
from rescoldo.supervisor.child import Child, Part
from rescoldo.supervisor.sockets import bind
from support.patience import until
from support.ports import free_ports

S1 = SlotName("s1")
PATIENCE = 20.0  # seconds to wait for a condition before a test fails


@dataclass(frozen=True)
class Message:
    """A request as an instance received it, or a response as a client received it."""

    first: str  # request line or status line
    headers: dict[str, str]
    body: bytes

    @property
    def status(self) -> int:
        return int(self.first.split()[1])

    @property
    def method(self) -> str:
        return self.first.split()[0]

    @property
    def path(self) -> str:
        return self.first.split()[1]

    @property
    def text(self) -> str:
        return self.body.decode()


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Respond = Callable[[Message], Awaitable[bytes | None]]


def ok(text: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode()


async def read_message(reader: asyncio.StreamReader) -> Message:
    """Read one HTTP message; raises ConnectionError if the peer closes before it is complete."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.strip().split("\r\n")
        headers = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(await reader.readline(), 16):
                body += (await reader.readexactly(size + 2))[:-2]
            await reader.readline()
        else:
            body = await reader.readexactly(int(headers.get("content-length", "0")))
    except asyncio.IncompleteReadError as error:
        raise ConnectionResetError(f"ended after {error.partial!r}") from error
    return Message(first, headers, body)


@dataclass(eq=False)
class Instance:
    """A stub instance on a Unix socket: answers with its name or the result of `respond` (None: closes without a
    response)."""

    name: InstanceId
    path: str
    respond: Respond
    requests: list[Message] = field(default_factory=list)
    connections: int = 0
    in_flight: int = 0
    most_in_flight: int = 0
    _server: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def address(self) -> str:
        return f"unix@{self.path}"

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, self.path, backlog=4096)
        Path(self.path).chmod(0o666)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            while True:
                request = await read_message(reader)
                self.requests.append(request)
                self.in_flight += 1
                self.most_in_flight = max(self.most_in_flight, self.in_flight)
                try:
                    answer = await self.respond(request)
                finally:
                    self.in_flight -= 1
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

    def crash(self) -> None:
        """Abort every connection and refuse new ones."""
        self.close()
        Path(self.path).unlink(missing_ok=True)
        for writer in list(self._writers):
            writer.transport.abort()

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None


class Client:
    """One client connection to the gateway."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(
        self, path: str, *, method: str = "GET", body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        lines = [f"{method} {path} HTTP/1.1", "Host: gateway", *(f"{k}: {v}" for k, v in (headers or {}).items())]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        self.writer.write("\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b""))

    async def receive(self) -> Message:
        return await read_message(self.reader)

    async def call(self, path: str, **request: Any) -> Message:
        self.send(path, **request)
        return await self.receive()

    def close(self) -> None:
        self.writer.close()


class Gate:
    """Blocks wakes and responses until a test opens it."""

    def __init__(self) -> None:
        self.open = asyncio.Event()

    async def wake(self, _: FunctionId) -> SlotName:
        await self.open.wait()
        return S1

    async def respond(self, _: Message) -> bytes:
        await self.open.wait()
        return ok("late")


class RealEdge:
    """HAProxy in a folder of its own; `edge` is its adapter. `wake` answers held requests."""

    def __init__(self, **settings: Any) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="re-", dir="/tmp"))
        self.folder.chmod(0o755)
        ports = free_ports(2)
        self.settings = Settings(
            **{
                "data": str(self.folder / "d"), "run": str(self.folder / "r"), "gateway": f"127.0.0.1:{ports[0]}",
                "metrics": f"127.0.0.1:{ports[1]}", "slots": 12, **settings,
            }
        )
        self.settings.wake_socket.parent.mkdir(parents=True)
        self.settings.instances.mkdir()
        self.edge = HaproxyEdge(self.settings)
        self.admin = AdminSocket(self.settings.admin_socket)
        self.wake: Callable[[FunctionId], Awaitable[SlotName]] = _nobody
        self.asked: list[FunctionId] = []  # functions that the edge asked wake.sock for, in order
        self.api: list[Message] = []  # requests that the API received
        self.api_connections = 0
        self.left = 0  # wakes that the edge cancelled
        self.full: list[SlotName] = []  # slots that the edge reported as full, in order
        self.full_again = 20  # the response's milliseconds until the edge may report a slot again
        self._logging: list[asyncio.Task[None]] = []  # readers of the access log
        self.took = StartTimes()  # start times in the responses to wakes
        self.calls: dict[CallKey, CallSums] = {}  # calls from the access log
        self.cold: list[ColdCall] = []  # cold calls from the access log
        self.failed: list[FailedCall] = []
        self.child: Child | None = None
        self.leaving: list[Child] = []
        self._instances: list[Instance] = []
        self._clients: list[Client] = []
        self._controller: list[socket.socket] = []  # listening sockets
        self._handlers: set[asyncio.Task[None]] = set()
        self._connections: set[asyncio.StreamWriter] = set()
        self._sockets: dict[str, socket.socket] = {}

    async def __aenter__(self) -> RealEdge:
        try:
            await self.boot()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # -- life cycle

    async def boot(self, *, slots: int | None = None) -> None:
        """Start the stub controller and HAProxy; return when HAProxy answers."""
        for name in ("wake", "api", "log"):
            self._sockets[name] = bind(getattr(self.settings, f"{name}_socket"), for_edge=True)
        await self.start_controller()
        await self.start()

    async def start(self) -> None:
        """Start HAProxy without any state."""
        path = config.write(self.settings, self.settings.slots)
        binary = process.binary()
        process.check(binary, path)
        self.child = Child.start(self.program(process.command(binary, path)))
        await self.until(self.answers)

    def program(self, command: list[str]) -> Part:
        environment = process.environment(process.binary())
        return Part("edge", lambda: command, environment, (), lambda line: "[ALERT]" in line)

    async def reload(self, servers: list[LiveServer], **maps: str) -> None:
        """Let a second process take over, as after a request for more slots."""
        assert self.child is not None
        old = self.child
        path = config.write(self.settings, self.settings.slots * 2, servers, **maps)
        command = process.reload_command(process.binary(), path, self.settings, old.pid)
        self.leaving.append(old)
        self.child = Child.start(self.program(command))
        await self.until(lambda: self.pid_that_answers(self.child.pid))  # type: ignore[union-attr]

    async def pid_that_answers(self, pid: int) -> bool:
        try:
            return f"Pid: {pid}\n" in await self.admin.run("show info")
        except EdgeUnavailable:
            return False

    async def restart(self) -> None:
        """Kill HAProxy and start another one."""
        assert self.child is not None
        self.child.send(signal.SIGKILL)
        await self.child.ended.wait()
        await self.start()

    async def close(self) -> None:
        for client in self._clients:
            client.close()
        for child in [*self.leaving, *([self.child] if self.child else [])]:
            await child.stop(signal.SIGTERM, 2.0) if child is not self.child else child.send(signal.SIGKILL)
            await child.ended.wait()
        for instance in self._instances:
            instance.crash()
        self.stop_controller()
        await self.until(lambda: not self._handlers)
        for sock in self._sockets.values():
            sock.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    async def answers(self) -> bool:
        try:
            await self.edge.servers()
        except EdgeUnavailable:
            return False
        return True

    # -- the controller's side

    async def start_controller(self) -> None:
        """Serve the sockets again, as a new controller serves the supervisor's sockets."""
        serve = {"wake": self._serve_wake, "api": self._serve_api}
        for name, handler in serve.items():
            sock = self._sockets[name].dup()
            sock.setblocking(False)
            asyncio.get_running_loop().add_reader(sock, self._accept, sock, handler)
            self._controller.append(sock)
        log = self._sockets["log"].dup()
        log.setblocking(False)
        asyncio.get_running_loop().add_reader(log, self._accept_log, log)
        self._controller.append(log)

    def stop_controller(self) -> None:
        """Play the controller's death: its connections end, new ones wait in the backlog."""
        accepting, self._controller = self._controller, []
        for sock in accepting:
            asyncio.get_running_loop().remove_reader(sock)
            sock.close()
        for task in self._logging:
            task.cancel()
        self._logging.clear()
        for writer in list(self._connections):
            writer.transport.abort()

    def refuse_wakes(self) -> None:
        """Close the listening socket, too, so that connections are refused."""
        self.stop_controller()
        self._sockets["wake"].close()

    async def accept_wakes(self) -> None:
        self._sockets["wake"] = bind(self.settings.wake_socket, for_edge=True)
        await self.start_controller()

    def _accept(self, listener: socket.socket, handler: Handler) -> None:
        """Serve one connection. asyncio's own servers lose connections that they have just accepted when they close."""
        with suppress(BlockingIOError):
            connection, _ = listener.accept()
            connection.setblocking(False)
            self._handlers.add(task := asyncio.create_task(self._serve(connection, handler)))
            task.add_done_callback(self._handlers.discard)

    async def _serve(self, connection: socket.socket, handler: Handler) -> None:
        await handler(*await asyncio.open_unix_connection(sock=connection))

    async def _serve_wake(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            name = FunctionId((await reader.readline()).decode().strip())
            if not name:  # the edge closed the connection without a request
                return
            if name.startswith("full "):
                self.full.append(SlotName(name.removeprefix("full ")))
                writer.write(b"again %d\n" % self.full_again)
                return
            self.asked.append(name)
            answer = asyncio.ensure_future(self.wake(name))
            left = asyncio.ensure_future(reader.read(1))
            await asyncio.wait((answer, left), return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():  # the edge no longer holds the request
                answer.cancel()
                self.left += 1
                return
            left.cancel()
            try:
                writer.write(f"ok {answer.result()} {':'.join(map(str, self.took))}\n".encode())
            except RescoldoError as error:
                text = error.message.encode() + b"\n"
                writer.write(b"no %d 7 %d\n" % (error.status, len(text)) + text)
        except ConnectionError:
            pass
        finally:
            self._connections.discard(writer)
            writer.close()

    async def _serve_api(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.api_connections += 1
        try:
            request = await read_message(reader)
            self.api.append(request)
            writer.write(ok(f"api {request.path}"))
            await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    def _accept_log(self, listener: socket.socket) -> None:
        with suppress(BlockingIOError):
            connection, _ = listener.accept()
            connection.setblocking(False)
            task = asyncio.create_task(read_calls(connection, self._count))
            task.add_done_callback(lambda _: connection.close())  # even if it is cancelled before it begins
            self._logging.append(task)

    def _count(self, told: Tally) -> None:
        for key, sums in told.calls.items():
            self.calls.setdefault(key, CallSums()).add(sums)
        self.cold += told.colds
        self.failed += told.failed

    # -- instances and clients

    async def instance(self, name: str, respond: Respond | None = None, path: str = "") -> Instance:
        """Start a stub instance that no part of the edge knows yet."""

        async def tell_name(_: Message) -> bytes:
            return ok(name)

        path = path or str(self.settings.instances / f"{name}.sock")
        made = Instance(InstanceId(name), path, respond or tell_name)
        await made.start()
        self._instances.append(made)
        return made

    async def place(
        self, slot: str, name: str, respond: Respond | None = None, *, concurrency: int = 100, path: str = ""
    ) -> Instance:
        """Start a stub instance and make it a server of a slot."""
        made = await self.instance(name, respond, path)
        await self.edge.add_server(LiveServer(SlotName(slot), made.name, made.address, concurrency))
        return made

    async def connect(self, address: str = "") -> Client:
        """Connect to the gateway, or to another listener of the edge."""
        host, _, port = (address or self.settings.gateway).rpartition(":")
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

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until a condition, sync or async, is true."""
        await until(condition, PATIENCE)


async def _nobody(function: FunctionId) -> SlotName:
    raise AssertionError(f"{function} must not be woken")


def rss(pid: int) -> int:
    """Return the bytes of a process's resident memory."""
    match = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert match is not None
    return int(match[1]) * 1024
