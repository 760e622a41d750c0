"""Calls of a gateway's functions and of its API, for tests, wherever the platform runs."""

from __future__ import annotations

import base64
import http.client
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rescoldo.bundle.build import BuildRequest, BuiltBundle, build
from rescoldo.bundle.deps import Run
from support.patience import SLOWNESS

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


class Gateway:
    """A gateway at `host` and `port`; functions are built in `folder`. A subclass knows the login and the log."""

    folder: Path
    host = "127.0.0.1"
    port: int

    def login(self) -> tuple[str, str] | None:
        """Return user and password; None: the platform wants none."""
        return None

    def log(self) -> str:
        """Return what the platform has printed."""
        return ""

    def authorization(self) -> dict[str, str]:
        login = self.login()
        if login is None:
            return {}
        return {"Authorization": "Basic " + base64.b64encode(":".join(login).encode()).decode()}

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
        return http.client.HTTPConnection(self.host, self.port, timeout=timeout)

    def invoke(self, name: str, body: bytes | str | None = None, **options: Any) -> Answer:
        return self.call("GET" if body is None else "POST", f"/function/{name}", body, **options)

    def system(self, method: str, path: str, data: Any = None, headers: Mapping[str, str] | None = None) -> Answer:
        """Call /system with the platform's own credentials; `data` is sent as JSON unless it is bytes."""
        body = data if isinstance(data, bytes) or data is None else json.dumps(data).encode()
        return self.call(method, f"/system{path}", body, {**self.authorization(), **(headers or {})})

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
