"""A real registry for tests: that of the CNCF project Distribution, in memory, compiled once into the cache of CI."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from go_upstream import build
from support.certificates import Pair

USER, PASSWORD = "me", "open sesame"
SERVICE, ISSUER = "a registry", "a token server"
_CONFIG = "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {inmemory: {}}\n"


def program() -> Path:
    """Return the registry's program; compile it if needed (a minute). Skips the test without Go."""
    if (go := shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")) is None:
        pytest.skip("the registry is compiled by `go`, which is not installed (scripts/need go)")
    told = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=True).stdout
    if (version := re.match(r"go1\.(\d+)", told)) is None or int(version[1]) < 26:
        pytest.skip(f"the registry is compiled by Go 1.26 or later, and this is {told.strip()}")
    with Path(__file__).open() as lock:  # not go.mod, which `go` locks itself: it would wait for us
        fcntl.flock(lock, fcntl.LOCK_EX)  # one test compiles it, the others wait
        return build(Path(__file__).with_name("distribution"))


@contextmanager
def registry(folder: Path, auth: dict[str, Any] | None = None) -> Iterator[str]:
    """Run a registry, with Distribution's `auth`; yields its HOST:PORT."""
    config = folder / "registry.yml"
    config.write_text(_CONFIG + (f"auth: {json.dumps(auth)}\n" if auth else ""))  # JSON is YAML
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("REGISTRY_", "OTEL_"))}
    environment["OTEL_TRACES_EXPORTER"] = "none"
    with (folder / "registry.log").open("w") as log:
        process = subprocess.Popen(
            [program(), config], stdout=subprocess.PIPE, stderr=log, text=True, env=environment
        )
    try:
        assert process.stdout is not None
        yield f"127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.communicate()


@contextmanager
def with_password(folder: Path) -> Iterator[str]:
    """A registry that wants USER's PASSWORD itself."""
    file = folder / "htpasswd"
    file.write_text(f"{USER}:{_BCRYPT}\n")
    with registry(folder, {"htpasswd": {"realm": "here", "path": str(file)}}) as address:
        yield address


# of PASSWORD, as htpasswd -B has it; the least number of rounds, since it is no secret
_BCRYPT = "$2b$04$zD.XSFB75LUfya4K63L3r.56NBbEaWNXb0K7OTUlUO9rAMzyazYqK"


@contextmanager
def with_tokens(folder: Path) -> Iterator[tuple[str, TokenServer]]:
    """A registry that wants a token, which a server gives for USER's PASSWORD."""
    pair = Pair(folder / "tokens.crt", folder / "tokens.key")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=tokens", "-keyout",
         pair.key, "-out", pair.certificate], check=True, capture_output=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    with TokenServer(pair) as tokens:
        auth = {
            "realm": f"http://127.0.0.1:{tokens.server_port}/token", "service": SERVICE, "issuer": ISSUER,
            "rootcertbundle": str(pair.certificate),
        }  # fmt: skip
        with registry(folder, {"token": auth}) as address:
            yield address, tokens


class TokenServer(ThreadingHTTPServer):
    """Gives tokens (https://distribution.github.io/distribution/spec/auth/jwt/): to anybody for what is public, else
    for USER's PASSWORD or the identity token PASSWORD."""

    def __init__(self, pair: Pair) -> None:
        super().__init__(("127.0.0.1", 0), _TokenHandler)
        self.pair = pair
        self.asked: list[tuple[str, str]] = []  # (method, scope)
        self.seconds = 300  # for which a token is good
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> TokenServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    def token(self, scope: str) -> str:
        """Return a token for `repository:NAME:pull,push`, or several with spaces between."""
        access = [{"type": kind, "name": name, "actions": actions.split(",")}
                  for kind, name, actions in (one.split(":") for one in scope.split())]  # fmt: skip
        now = int(time.time())
        claims = {
            "iss": ISSUER, "sub": USER, "aud": SERVICE, "exp": now + self.seconds, "nbf": now - 60, "iat": now - 60,
            "jti": str(time.monotonic_ns()), "access": access,
        }  # fmt: skip
        chain = "".join(self.pair.certificate.read_text().strip().splitlines()[1:-1])
        head = {"typ": "JWT", "alg": "RS256", "x5c": [chain]}
        text = f"{_encoded(json.dumps(head).encode())}.{_encoded(json.dumps(claims).encode())}"
        sign = ["openssl", "dgst", "-sha256", "-sign", self.pair.key]
        signature = subprocess.run(sign, input=text.encode(), capture_output=True, check=True).stdout
        return f"{text}.{_encoded(signature)}"


class _TokenHandler(BaseHTTPRequestHandler):
    server: TokenServer

    def do_GET(self) -> None:
        login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        self._answer(parse_qs(urlsplit(self.path).query), self.headers.get("Authorization") == f"Basic {login}")

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self._answer(form, form.get("refresh_token") == [PASSWORD])

    def _answer(self, asked: dict[str, list[str]], may: bool) -> None:
        scope = " ".join(asked["scope"])
        self.server.asked.append((self.command, scope))
        body = json.dumps({"token": self.server.token(scope)} if may else {"details": "no"}).encode()
        self.send_response(200 if may else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
