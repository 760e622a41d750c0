"""Runs a whole real platform for end-to-end tests and benchmarks: supervisor, HAProxy, controller, node."""

from __future__ import annotations

import base64
import http.client
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rescoldo.bundle.build import BuildRequest, BuiltBundle, build
from rescoldo.bundle.deps import Run
from rescoldo.model.settings import Settings
from rescoldo.supervisor.start import stop
from support.patience import SLOWNESS
from support.ports import free_ports

SOURCE = Path(__file__).parents[2] / "src"
# Identifies a process: in a PID namespace of its own every process has the number 1.
TOKEN = "import uuid\nMINE = uuid.uuid4().hex\ndef handle(event, context):\n    return MINE\n"
HELLO = "def handle(event, context):\n    return 'hello'\n"
PATIENCE = 30.0 * SLOWNESS  # seconds to wait for a condition before a test fails


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes
    seconds: float

    @property
    def text(self) -> str:
        return self.body.decode(errors="replace")

    @property
    def cold(self) -> bool:
        return self.headers.get("x-cold-start") == "true"


class Live:
    """A platform in folders of its own, on free ports."""

    python = sys.executable  # interpreter of the platform and its functions

    def __init__(self, **settings: Any) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="rl-", dir="/tmp"))
        ports = free_ports(2)
        chosen = {
            "data": str(self.folder / "data"),
            "run": tempfile.mkdtemp(prefix="rl-", dir="/dev/shm"),
            "gateway": f"127.0.0.1:{ports[0]}",
            "metrics": f"127.0.0.1:{ports[1]}",
        }
        self.folder.chmod(0o755)
        self.settings = Settings(**{**chosen, **settings})
        self.port = int(self.settings.gateway.rpartition(":")[2])
        self.prefix: list[str] = []  # a command that runs the platform in another environment or under limits
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Live:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- life cycle

    def start(self) -> None:
        """Start the platform and wait until it answers."""
        self.spawn()
        self.until(self.answers, "the platform to answer")

    def spawn(self) -> None:
        request = self.folder / "settings.json"
        request.write_text(json.dumps(asdict(self.settings)))
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command(request),
                env=self.environment(),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def command(self, request: Path) -> list[str]:
        """Return the command that starts the platform; the file `request` holds its settings."""
        return [*self.prefix, self.python, "-m", "rescoldo.supervisor.main", str(request)]

    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(SOURCE)}

    def answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"the platform ended:\n{self.log()}"
        try:
            return self.call("GET", "/healthz").status == 200
        except OSError:
            return False

    def stop(self) -> int:
        """Send SIGTERM; return the exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.stop()
        if self.settings.children_file.exists():  # a test killed guardian and supervisor
            stop(self.settings)
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.rmtree(self.settings.run, ignore_errors=True)

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def pid(self, name: str) -> int:
        """Return the pid of guardian, supervisor, edge, controller, node or zygote."""
        if name == "zygote":
            return next(pid for pid in children_of(self.pid("node")) if comm(pid) == "rescoldo-zyg")
        return int(json.loads(self.settings.children_file.read_text())[name])

    def kill(self, name: str) -> int:
        """Send SIGKILL to one of the platform's processes; return its pid."""
        pid = self.pid(name)
        os.kill(pid, signal.SIGKILL)
        return pid

    # -- requests

    def call(
        self, method: str, path: str, body: bytes | str | None = None, headers: Mapping[str, str] | None = None,
        timeout: float = 60.0,
    ) -> Answer:
        """Make one HTTP call on a new connection."""
        begin = time.perf_counter()
        connection = self.connection(timeout)
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            content = response.read()
            return Answer(response.status, response.headers, content, time.perf_counter() - begin)
        finally:
            connection.close()

    def connection(self, timeout: float) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def invoke(self, name: str, body: bytes | str | None = None, **options: Any) -> Answer:
        return self.call("GET" if body is None else "POST", f"/function/{name}", body, **options)

    def system(self, method: str, path: str, data: Any = None, headers: Mapping[str, str] | None = None) -> Answer:
        """Call /system with the platform's own credentials; `data` is sent as JSON unless it is bytes."""
        body = data if isinstance(data, bytes) or data is None else json.dumps(data).encode()
        return self.call(method, f"/system{path}", body, {**self.authorization(), **(headers or {})})

    def authorization(self) -> dict[str, str]:
        if not self.settings.basic_auth:
            return {}
        user = (self.settings.secrets / "basic-auth-user").read_text().strip()
        password = (self.settings.secrets / "basic-auth-password").read_text().strip()
        return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}

    def upload(self, image: str, code: str = HELLO, style: str = "http") -> None:
        """Build a function from one source file with the real builder and upload it."""
        source = self.folder / "source" / image.replace("/", "_").replace(":", "_")
        source.mkdir(parents=True, exist_ok=True)
        (source / "handler.py").write_text(code)
        request = BuildRequest(image, "python3-http", style, source, project=source.parent)
        built = build(request, self.folder / "build" / source.name, lambda line: None, run=no_installer)
        self.send(image, built)

    def send(self, image: str, built: BuiltBundle) -> None:
        """Upload a bundle, after its layer."""
        if built.layer is not None:
            answer = self.system("POST", "/layers", built.layer.path.read_bytes())
            assert answer.status == 201, answer.text
        answer = self.system("POST", f"/bundles?image={image}", built.path.read_bytes())
        assert answer.status == 201, answer.text

    def deploy(self, name: str, code: str | None = None, *, image: str = "", style: str = "http", **spec: Any) -> None:
        """Deploy `code` (built and uploaded first), or an image that was uploaded."""
        if code is not None:
            image = image or f"{name}:test"
            self.upload(image, code, style)
        known = self.system("GET", f"/function/{name}?namespace={spec.get('namespace', '')}").status == 200
        query = "" if known else "?rollout=immediate"  # so that a test's first call starts the function
        answer = self.system("POST", f"/functions{query}", {"service": name, "image": image, **spec})
        assert answer.status == 202, answer.text

    def deploy_program(
        self, name: str, folder: Path, command: str, upstream: str, run: Run | None = None, **spec: Any
    ) -> None:
        """Deploy the program in `folder`; `run` installs its requirements. Raises BuildFailed."""
        request = BuildRequest(name, "process", "process", folder, folder.parent, command=tuple(command.split()))
        place, layers = self.folder / "build" / name, self.folder / "layers"
        built = build(request, place, lambda line: None, run or no_installer, layers)
        self.send(f"{name}:test", built)
        env = {"mode": "http", "upstream_url": upstream, **spec.pop("envVars", {})}
        self.deploy(name, image=f"{name}:test", envProcess=command, envVars=env, **spec)

    def replicas(self, name: str) -> int:
        return int(json.loads(self.system("GET", f"/function/{name}").text)["availableReplicas"])

    def invocations(self, name: str) -> int:
        return int(json.loads(self.system("GET", f"/function/{name}").text)["invocationCount"])

    def sleep(self, name: str) -> None:
        """Put a function to sleep and wait until it sleeps."""
        assert self.system("POST", f"/scale-function/{name}", {"serviceName": name, "replicas": 0}).status == 202
        self.until(lambda: self.replicas(name) == 0, f"{name} to sleep")

    def instances(self) -> list[Path]:
        """Return the listening sockets of instances."""
        return sorted(self.settings.instances.glob("*.sock"))

    def instance_pids(self, name: str) -> list[int]:
        """Return the pids of a function's instances from the node's notes."""
        found = []
        for path in self.settings.instance_state.glob("*.json"):
            with suppress(FileNotFoundError):  # the instance has ended since the glob
                note = json.loads(path.read_text())
                if note["launch"]["function"].partition(".")[0] == name:
                    found.append(note["pid"])
        return found

    def function_log(self, name: str) -> str:
        lines = self.system("GET", f"/logs?name={name}&tail=1000&follow=false").text.splitlines()
        return "\n".join(json.loads(line)["text"] for line in lines)

    def until(self, condition: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
        """Wait for a condition; fail after `seconds`."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"waited {seconds:g} s in vain for {what}\n{self.log()[-3000:]}"
            time.sleep(0.01)


def no_installer(*_: Any, **__: Any) -> int:
    raise AssertionError("these functions have no requirements")


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def alive(pid: int) -> bool:
    """Return whether a process exists and has not ended.

    /proc shows a killed process as a zombie as soon as its main thread has ended. Its sockets stay open until its
    last thread has ended: the pidfd becomes readable only then.
    """
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        return not poll.poll(0)
    finally:
        os.close(pidfd)


def pss(pid: int) -> int:
    """Return a process's proportional set size in bytes."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0
