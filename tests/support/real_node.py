"""Runs a real node process with real bundles, for tests."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rescoldo.handover import handed_over
from rescoldo.model.errors import NodeUnavailable
from rescoldo.model.ids import BUNDLE_GIDS
from rescoldo.model.instance import Launch, RunningInstance
from rescoldo.model.names import FunctionId, InstanceId
from rescoldo.model.settings import Settings
from rescoldo.node.client import NodeClient
from rescoldo.node.processes.kept_listeners import ENDS, make_pair
from support.patience import SLOWNESS
from support.patience import until as until

SOURCE = Path(__file__).parents[2] / "src"
HELLO = "def handle(event, context):\n    return 'hello'\n"

# A handler that stops its instance from being called: it shuts the listening socket down, or closes it.
DEAFENS = """
import os, socket, time, uuid
MINE = uuid.uuid4().hex

def listening():
    for fd in sorted(map(int, os.listdir("/proc/self/fd"))):
        try:
            found = socket.socket(fileno=os.dup(fd))
        except OSError:
            continue
        if found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            yield fd, found
        found.close()

def handle(event, context):
    if event.path == "/shut":
        for fd, found in listening():
            found.shutdown(socket.SHUT_RDWR)
    if event.path == "/close":
        for fd, found in listening():
            os.close(fd)
    if event.path == "/close-and-wait":
        for fd, found in listening():
            os.close(fd)
        time.sleep(1.5)
    if event.path == "/busy":
        time.sleep(2)
    return MINE
"""

# A program that does the same with an inherited socket, a socket that it binds, or a TCP port.
DEAF_PROGRAM = """#!{python}
import os, socket, threading, time, uuid
MINE = uuid.uuid4().hex
if "LISTEN_FDS" in os.environ:
    listener = socket.socket(fileno=3)
elif "SOCKET" in os.environ:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(os.environ["SOCKET"])
    listener.listen()
else:
    listener = socket.create_server(("127.0.0.1", int(os.environ["PORT"])))
while True:
    try:
        client, _ = listener.accept()
    except OSError:
        time.sleep(60)
    asked = client.recv(65536)
    if not asked:
        continue
    if b"/shut" in asked:
        listener.shutdown(socket.SHUT_RDWR)
    if b"/close" in asked:
        os.close(listener.fileno())
    client.sendall(b"HTTP/1.1 200 OK\\r\\nConnection: close\\r\\nContent-Length: 32\\r\\n\\r\\n" + MINE.encode())
    client.close()
"""


class RealNode:
    """The node process in a folder of its own; `client` speaks to it."""

    def __init__(
        self, command: Callable[[tuple[Path, ...], list[str]], list[str]] | None = None, **settings: Any
    ) -> None:
        """`command` maps the folders and the node's command to the command that runs instead."""
        self._command = command or (lambda _, node: node)
        self.folder = Path(tempfile.mkdtemp(prefix="rn-"))
        self.settings = Settings(str(self.folder / "d"), tempfile.mkdtemp(prefix="rn-", dir="/dev/shm"), **settings)
        self.settings.data_path.mkdir()
        self.settings.bundles.mkdir()
        self.settings.save()
        self.client = NodeClient(self.settings)
        self.process: subprocess.Popen[bytes] | None = None
        self._listener: socket.socket | None = None
        self._forks = make_pair()  # keeps instances' listeners when a node is killed, as the supervisor does
        self._numbers = itertools.count(1)

    def hand_over(self) -> None:
        """Own the listening socket from now on and pass it to each node, as the supervisor does."""
        self.settings.node_socket.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(self.settings.node_socket))
        self._listener.listen()

    async def boot(self) -> None:
        """Start the node process and wait until it answers."""
        self._spawn()
        await until(self._answers)

    def _spawn(self) -> None:
        with (self.folder / "stderr").open("ab") as stderr:
            node = [sys.executable, "-m", "rescoldo.node.main", str(self.settings.settings_file)]
            env = {"PYTHONPATH": str(SOURCE), "PATH": os.environ["PATH"], "A_SECRET": "of the platform"}
            handed = [end.fileno() for end in self._forks]
            env |= handed_over(dict(zip(ENDS, handed, strict=True)))
            if self._listener is not None:
                handed.append(self._listener.fileno())
                env["RESCOLDO_LISTEN_FD"] = str(self._listener.fileno())
            self.process = subprocess.Popen(
                self._command((self.folder, self.settings.run_path), node),
                env=env,
                pass_fds=handed,
                stderr=stderr,
            )

    async def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.stderr()
        try:
            await self.client.instances()
        except NodeUnavailable:
            return False
        return True

    def stderr(self) -> str:
        return (self.folder / "stderr").read_text()

    def kill(self, number: int = signal.SIGKILL) -> int:
        """Send a signal to the node process and wait until it ends."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(20)

    def zygote(self) -> int:
        """Return the zygote's pid, or 0."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        names = {int(pid): _name(int(pid)) for pid in children}
        return next((pid for pid, name in names.items() if name == "rescoldo-zyg"), 0)

    def launch(self, code: str = HELLO, name: str = "fn", **more: Any) -> Launch:
        """Write a bundle with `code` as its handler; return the launch of an instance of it."""
        number = next(self._numbers)
        digest = f"bundle{number}"
        bundle = self.settings.bundles / digest
        (bundle / "function").mkdir(parents=True)
        (bundle / "function" / "handler.py").write_text(code)
        manifest = {
            "schema": 1,
            "kind": "python",
            "python": "3.11",
            "arch": "x86_64",
            "lang": "python3-http",
            "style": "http",
            "handler": "function.handler",
        }
        (bundle / "manifest.json").write_text(json.dumps(manifest))
        _own(bundle, BUNDLE_GIDS[number])
        usual = {"grace": 2.0, "ready_timeout": 15.0 * SLOWNESS, "exec_timeout": 30.0 * SLOWNESS}
        return Launch(InstanceId(f"{name}-{number}"), FunctionId(f"{name}.ns"), digest, **{**usual, **more})

    def launch_of(self, unpacked: Path, kind: str) -> Launch:
        """Copy an unpacked bundle of `kind` to the node; return the launch of an instance of it."""
        launch = self.launch(kind=kind)
        bundle = self.settings.bundles / launch.digest
        gid = bundle.stat().st_gid
        shutil.rmtree(bundle)
        shutil.copytree(unpacked, bundle)
        _own(bundle, gid)
        return launch

    def program(self, command: str, upstream: str, *files: Path, name: str = "prog", **more: Any) -> Launch:
        """Write a bundle with `files`; return the launch of an instance that runs `command`."""
        launch = self.launch(name=name, kind="process", command=tuple(command.split()), upstream=upstream, **more)
        folder = self.settings.bundles / launch.digest / "function"
        for file in files:
            copy = Path(shutil.copy(file, folder))
            copy.chmod(0o750)
            if os.geteuid() == 0:
                os.chown(copy, 0, folder.stat().st_gid)
        return launch

    async def logged(self, launch: Launch) -> list[str]:
        """Return the texts of all kept log lines of the function."""
        lines = self.client.logs(launch.function, tail=None, since=None, follow=False)
        return [line.text async for line in lines]

    async def close(self) -> None:
        ended = self.process is not None and self.process.poll() is not None
        if ended and any(self.settings.instance_state.glob("*.json")):
            await self.boot()  # a failed test left instances without a node: a new node ends them
        await self.client.close()
        if self.process is not None and self.process.poll() is None:
            self.kill(signal.SIGTERM)
        if self._listener is not None:
            self._listener.close()
        for end in self._forks:
            end.close()
        shutil.rmtree(self.folder)
        shutil.rmtree(self.settings.run_path)


def _own(bundle: Path, gid: int) -> None:
    """Let the bundle's group alone read it, as the platform does when it is root."""
    if os.geteuid() == 0:
        for path in (bundle, *bundle.rglob("*")):
            os.chown(path, 0, gid)
            path.chmod(0o750 if path.is_dir() else 0o640)


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def alive(pid: int) -> bool:
    """Return whether `pid` runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def socket_of(running: RunningInstance) -> Path:
    """Return the path of the instance's Unix socket."""
    assert running.address.startswith("unix@")
    return Path(running.address.removeprefix("unix@"))


async def connect(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to "unix@PATH" or "IP:PORT"."""
    if address.startswith("unix@"):
        return await asyncio.open_unix_connection(address.removeprefix("unix@"))
    host, _, port = address.rpartition(":")
    return await asyncio.open_connection(host, int(port))


async def call(running: RunningInstance | str, path: str = "/", timeout: float = 10.0) -> str:
    """GET `path` from the instance; return the body."""
    address = running if isinstance(running, str) else running.address
    async with asyncio.timeout(timeout * SLOWNESS):
        reader, writer = await connect(address)
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            assert head.split()[1:2] == ["200"], head
            # Read the body by its length: a forked process of the handler may keep the connection open.
            length = int(head.partition("content-length:")[2].split()[0])
            return (await reader.readexactly(length)).decode()
        finally:
            writer.close()


async def answered(running: RunningInstance) -> str:
    """Call the instance and return the response; retry refused calls only, as the edge does."""
    while True:
        try:
            return await call(running)
        except (ConnectionRefusedError, FileNotFoundError):
            await asyncio.sleep(0.05)


def deaf_program(folder: Path) -> Path:
    """Write DEAF_PROGRAM into `folder`; return the file."""
    file = folder / "server"
    file.write_text(DEAF_PROGRAM.format(python=Path(sys.executable).resolve()))
    return file


async def until_replaced(running: RunningInstance, how: str) -> None:
    """Make an instance of DEAF_PROGRAM refuse further requests, and wait until another process answers."""
    first = await call(running)
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):  # the node may kill it before it answers
        await call(running, how)
    assert await answered(running) != first
