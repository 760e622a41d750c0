"""A gateway that records requests and returns a test's responses."""

import io
import json
import sys
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from rescoldo.cli.main import main


@dataclass
class Call:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def line(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def json(self):
        return json.loads(self.body)


@dataclass
class RecordingGateway:
    url: str = ""
    calls: list[Call] = field(default_factory=list)
    answers: dict[str, list[tuple[int, bytes, dict[str, str]]]] = field(default_factory=dict)
    together: int = 1  # the first changes wait until this many arrived
    waited_in_vain: bool = False  # `together` changes did not arrive within 10 s

    def wait(self) -> None:
        deadline = time.monotonic() + 10
        while len(self.changes()) < self.together > 1 and not self.waited_in_vain:
            self.waited_in_vain = time.monotonic() > deadline
            time.sleep(0.001)

    def answer(self, line: str, status: int, body: object = b"", **headers: str) -> None:
        """Queue a response for `METHOD /path` (no query); the last one stays."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.answers.setdefault(line, []).append((status, data, headers))

    def lines(self) -> list[str]:
        return [call.line for call in self.calls]

    def changes(self) -> list[Call]:
        """Return the calls that change something."""
        return [call for call in self.calls if call.method != "GET"]


@pytest.fixture
def gateway(monkeypatch):
    record = RecordingGateway()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _any(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            record.calls.append(Call(self.command, self.path, dict(self.headers), body))
            record.wait()
            queued = record.answers.get(f"{self.command} {self.path.partition('?')[0]}", [(202, b"", {})])
            status, data, headers = queued.pop(0) if len(queued) > 1 else queued[0]
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _any

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    record.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("OPENFAAS_URL", record.url)
    yield record
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Give the test a home, a data directory and a current folder of its own."""
    folder = tmp_path / "home"
    folder.mkdir()
    for name in ("OPENFAAS_URL", "OPENFAAS_PREFIX", "RESCOLDO_DATA", "XDG_DATA_HOME", "RESCOLDO_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(folder))
    # hide other platforms on this machine
    monkeypatch.setattr("rescoldo.supervisor.running.platforms", list)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    return folder


@pytest.fixture
def run(capfd):
    """Run a command line; return (exit status, stdout, stderr)."""

    def call(*argv: str) -> tuple[int, str, str]:
        capfd.readouterr()
        status = main(argv)
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        return status, out, err

    return call


@pytest.fixture
def stdin(monkeypatch):
    """Feed bytes to standard input, which is not a terminal."""

    def feed(data: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))

    return feed
