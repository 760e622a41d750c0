"""WebSockets to programs: through the edge, from zero and warm, until one side or a deployment ends them."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import socket
from pathlib import Path

import pytest

from support.live import Live

pytestmark = pytest.mark.slow

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455
TEXT, CLOSE = 1, 8  # opcodes

# sends its MARK, then echoes; a plain request gets its pid
SERVER = r'''
import base64, hashlib, os, socket, threading

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, CLOSE = 1, 8

def frame(opcode, data):
    return bytes((0x80 | opcode, len(data))) + data

def answer(client):
    head = client.recv(65536).decode()
    fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n") if ": " in line)
    if fields.get("upgrade") != "websocket":
        body = str(os.getpid()).encode()
        if head:
            client.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        return client.close()
    key = next(line for line in head.split("\r\n") if line.lower().startswith("sec-websocket-key")).split(": ")[1]
    accept = base64.b64encode(hashlib.sha1((key + GUID).encode()).digest()).decode()
    client.sendall(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode() + frame(TEXT, os.environ.get("MARK", "hello").encode())
    )
    reader = client.makefile("rb")
    while start := reader.read(2):
        mask = reader.read(4)
        data = bytes(byte ^ mask[i % 4] for i, byte in enumerate(reader.read(start[1] & 0x7F)))
        client.sendall(frame(start[0] & 0xF, data))
        if start[0] & 0xF == CLOSE:
            break
    client.close()

if "LISTEN_FDS" in os.environ:
    listener = socket.socket(fileno=3)
else:
    listener = socket.create_server(("127.0.0.1", int(os.environ["PORT"])))
while True:
    threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()
'''


class WebSocket:
    """A client of the gateway. Raises ConnectionError if the upgrade is refused."""

    def __init__(self, live: Live, path: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", live.port), timeout=30)
        self._reader = self._socket.makefile("rb")
        key = base64.b64encode(os.urandom(16)).decode()
        self._socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        self.status = int(self._reader.readline().split()[1])
        self.headers: dict[str, str] = {}
        while line := self._reader.readline().decode().strip():
            name, _, value = line.partition(": ")
            self.headers[name.lower()] = value
        if self.status != 101:
            raise ConnectionError(self.status)
        accept = base64.b64encode(hashlib.sha1((key + GUID).encode()).digest()).decode()
        assert self.headers["sec-websocket-accept"] == accept

    def __enter__(self) -> WebSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()
        self._socket.close()

    def send(self, text: str, opcode: int = TEXT) -> None:
        data, mask = text.encode(), os.urandom(4)
        masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(data))
        self._socket.sendall(bytes((0x80 | opcode, 0x80 | len(data))) + mask + masked)

    def receive(self) -> tuple[int, bytes] | None:
        """Return the next frame's opcode and data; None at the end of the connection."""
        start = self._reader.read(2)
        return (start[0] & 0xF, self._reader.read(start[1])) if start else None

    def says(self) -> str:
        frame = self.receive()
        assert frame is not None
        assert frame[0] == TEXT
        return frame[1].decode()

    def echo(self, text: str) -> str:
        self.send(text)
        return self.says()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("program")
    python = shutil.which("python3", path="/usr/local/bin:/usr/bin")
    file = folder / "server"
    file.write_text(f"#!{python} -S\n{SERVER}")
    file.chmod(0o755)
    return folder


@pytest.mark.parametrize("upstream", ["http://127.0.0.1:8000", "inherited"])
def test_a_websocket_to_a_program_opens_from_zero_and_warm(platform: Live, server: Path, upstream: str) -> None:
    name = f"ws-{upstream[:4]}"
    platform.deploy_program(name, server, "./server", upstream)
    with WebSocket(platform, f"/function/{name}/chat?room=1") as cold:
        assert cold.headers["x-cold-start"] == "true"
        assert cold.says() == "hello"
        assert cold.echo("one") == "one"

        def warm() -> bool:
            with WebSocket(platform, f"/function/{name}") as second:
                return second.headers["x-cold-start"] == "false" and second.says() == "hello"

        platform.until(warm, "the edge to know its route")
        assert cold.echo("two") == "two"
        cold.send("", CLOSE)
        assert cold.receive() == (CLOSE, b"")
        assert cold.receive() is None


def test_an_open_websocket_keeps_its_function_awake_and_has_no_time_limit(platform: Live, server: Path) -> None:
    notes = {"rescoldo.dev/idle-window": "2s"}
    for name in ("ws-idle", "ws-peer"):
        platform.deploy_program(
            name, server, "./server", "inherited", annotations=notes, envVars={"exec_timeout": "300ms"}
        )
    with WebSocket(platform, "/function/ws-idle") as client:
        assert client.says() == "hello"
        assert platform.invoke("ws-peer").status == 200
        platform.until(lambda: platform.replicas("ws-peer") == 0, "the other function to sleep")
        assert platform.replicas("ws-idle") == 1
        assert client.echo("still") == "still"
    platform.until(lambda: platform.replicas("ws-idle") == 0, "the function to sleep")


@pytest.mark.parametrize("how", ["deployed", "scaled to zero", "removed"])
def test_an_open_websocket_outlives_its_revision_for_the_grace_and_then_ends(
    platform: Live, server: Path, how: str
) -> None:
    name = f"ws-{how[:3]}"
    notes = {"rescoldo.dev/grace": "1s"}
    env = {"exec_timeout": "2s"}

    def deploy(mark: str) -> None:
        more = {"annotations": notes, "envVars": {**env, "MARK": mark}}
        platform.deploy_program(name, server, "./server", "inherited", **more)

    deploy("old")
    with WebSocket(platform, f"/function/{name}") as before:
        assert before.says() == "old"
        if how == "deployed":
            deploy("new")
        elif how == "removed":
            assert platform.system("DELETE", "/functions", {"functionName": name}).status == 202
        else:
            platform.sleep(name)
        assert before.echo("still there") == "still there"
        if how != "removed":
            with WebSocket(platform, f"/function/{name}") as after:
                assert after.says() == ("new" if how == "deployed" else "old")
                assert before.receive() is None
                assert after.echo("on") == "on"
        assert before.receive() is None
