"""A real instance process, forked as the zygote forks it, and a raw client for its Unix socket."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from rescoldo.model.instance import Launch
from rescoldo.model.names import FunctionId, InstanceId
from rescoldo.runtime import instance

FUNCTION = "hello.openfaas-fn"
ECHO = """
def handle(event, context):
    return {"body": {"method": event.method, "path": event.path, "query": event.query,
                     "body": event.body.decode("latin-1"), "headers": dict(event.headers),
                     "call_id": context.call_id}}
"""


def write_bundle(root: Path, code: str | None, style: str = "http", **extra: str) -> None:
    """Write an unpacked bundle whose function/handler.py is `code`; `extra` are further files of the folder."""
    (root / "function").mkdir(parents=True, exist_ok=True)
    manifest = {"schema": 1, "kind": "python", "python": "3.11", "arch": "x86_64", "lang": "python3-http"}
    (root / "manifest.json").write_text(json.dumps({**manifest, "style": style, "handler": "function.handler"}))
    if code is not None:
        (root / "function" / "handler.py").write_text(textwrap.dedent(code))
    for name, text in extra.items():
        path = root / "function" / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text))


@dataclass
class Instance:
    """A forked instance."""

    pid: int
    path: str
    log_file: Path
    report: dict[str, Any]
    listener: socket.socket
    clients: list[Client] = field(default_factory=list)
    code: int | None = None

    def connect(self) -> Client:
        client = Client(self.path)
        self.clients.append(client)
        return client

    def get(self, target: str = "/", **kwargs: Any) -> Answer:
        client = self.connect()
        return client.ask(target, **kwargs)

    def log(self) -> str:
        return self.log_file.read_text()

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self, seconds: float = 10.0) -> int:
        """Wait until the instance ends; return its exit code."""
        if self.code is None:
            fd = os.pidfd_open(self.pid)
            try:
                ended, _, _ = select.select([fd], [], [], seconds)
            finally:
                os.close(fd)
            assert ended, f"the instance still runs after {seconds} s; its log:\n{self.log()}"
            self.code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.code

    def close(self) -> None:
        for client in self.clients:
            client.close()
        self.listener.close()
        if self.code is None:
            self.signal(signal.SIGKILL)
            self.wait()


@dataclass
class Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes
    whole: bool = True  # False: a chunked body without its last chunk

    def header(self, name: str) -> str | None:
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        assert len(values) < 2, (name, values)
        return values[0] if values else None

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """A raw HTTP client that checks every framing."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(10)
        self.socket.connect(path)
        self.file: BinaryIO = self.socket.makefile("rb")

    def close(self) -> None:
        self.file.close()
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def ask(self, target: str = "/", method: str = "GET", body: bytes = b"", **headers: str) -> Answer:
        fields = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        self.send(f"{method} {target} HTTP/1.1\r\nHost: f\r\n{fields}{length}\r\n".encode() + body)
        return self.answer(method)

    def head(self) -> Answer:
        line = self.file.readline()
        assert line.startswith(b"HTTP/1.1 "), line
        headers = []
        while (field_line := self.file.readline()) != b"\r\n":
            name, _, value = field_line.decode("latin-1").rstrip("\r\n").partition(": ")
            assert field_line.endswith(b"\r\n"), field_line
            headers.append((name, value))
        return Answer(int(line.split()[1]), headers, b"")

    def answer(self, method: str = "GET") -> Answer:
        answer = self.head()
        length = answer.header("Content-Length")
        chunked = answer.header("Transfer-Encoding") == "chunked"
        assert not (chunked and length is not None)
        if method == "HEAD" or answer.status in (100, 204, 304):
            return answer
        if chunked:
            while chunk := self.chunk():
                answer.body += chunk
            answer.whole = chunk == b""
        elif length is not None:
            answer.body = self.file.read(int(length))
            assert len(answer.body) == int(length)
        else:
            answer.body = self.file.read()
        return answer

    def chunk(self) -> bytes | None:
        """Read one chunk; b'' is the last one, None means that the connection ended without it."""
        line = self.file.readline()
        if not line:
            return None
        size = int(line, 16)
        data = self.file.read(size)
        assert self.file.read(2) == b"\r\n"
        return data

    def at_end(self) -> bool:
        """Wait for more; return whether the server closed instead, with nothing left unread."""
        try:
            return self.file.read(1) == b""
        except ConnectionResetError:
            return True


def start(root: Path, **launch: Any) -> Instance:
    """Fork an instance of the bundle at `root`; return when its report is complete."""
    path, log_file = str(root / "i.sock"), root / "log"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(1024)
    read, write = os.pipe()
    settings = {"concurrency": 4, "exec_timeout": 10.0, **launch}
    ordered = Launch(InstanceId("i-1"), FunctionId(FUNCTION), "digest", **settings)
    pid = os.fork()
    if pid == 0:
        os.close(read)
        _child(root, log_file, lambda: instance.run(ordered, listener, write))
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        line = pipe.read()  # to its end: the instance must close it
    return Instance(pid, path, log_file, json.loads(line or b"{}"), listener)


def _child(root: Path, log_file: Path, run: Callable[[], int]) -> None:
    code = 99
    try:
        signal.setitimer(signal.ITIMER_REAL, 0)
        log = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
        os.chdir(root)
        code = run()
    finally:
        os._exit(code)


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Return once `condition` holds; a file or a process has no event to wait on."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition never held"
        time.sleep(0.005)
