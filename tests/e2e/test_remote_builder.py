"""The requests of `faas-cli up --remote-builder GATEWAY`, on a real platform."""

from __future__ import annotations

import base64
import http.client
import json
import os
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest

from support.faas_builder import CLASSIC, HTTP, archive, headers, shrinkwrapped
from support.gateway import Answer
from support.live import Live
from support.unprivileged import UnprivilegedLive, interpreter, readable_library

pytestmark = pytest.mark.slow


def secret(platform: Live) -> bytes:
    return (platform.settings.secrets / "payload-secret").read_bytes().strip()


def post(platform: Live, body: bytes, *, stream: bool = True, **more: str) -> Answer:
    return platform.call("POST", "/build", body, {**headers(body, secret(platform), stream=stream), **more})


def results(answer: Answer) -> list[dict[str, Any]]:
    """Read the results as the client does, which stops at a line of 64 KiB or more."""
    assert answer.status == 200, answer.text
    assert max(len(line) for line in answer.body.splitlines()) < 64 * 1024
    return [json.loads(line) for line in answer.body.splitlines()]


def deploy(platform: Live, name: str, image: str) -> None:
    """Deploy as `up` does after the build."""
    body = {"service": name, "image": image, "envProcess": "python index.py"}
    assert platform.system("PUT", "/functions", body).status == 404
    answer = platform.system("POST", "/functions", body)
    assert answer.status in (200, 201, 202), answer.text


def leftovers(platform: Live) -> list[Path]:
    return list(platform.settings.builds.glob("build-*"))


def test_up_builds_and_deploys_a_function_that_answers(platform: Live) -> None:
    found = results(post(platform, archive(shrinkwrapped({"handler.py": HTTP}), "ghcr.io/acme/hello:1.0")))
    assert {one["status"] for one in found[:-1]} == {"in_progress"} and any(one["log"] for one in found)
    assert (found[-1]["status"], found[-1]["image"]) == ("success", "ghcr.io/acme/hello:1.0")
    deploy(platform, "hello", "ghcr.io/acme/hello:1.0")
    assert platform.invoke("hello", "Ada").text == "Hello, Ada"
    assert leftovers(platform) == []


def test_up_builds_a_classic_function_with_its_own_modules(platform: Live) -> None:
    files = {"handler.py": "from .words import GREETING\n" + CLASSIC.replace("'Hello, '", "GREETING"),
             "words.py": "GREETING = 'Salve, '\n"}
    body = archive(shrinkwrapped(files, "python3"), "classic:1", buildArgs={"TEST_ENABLED": "s3cret"}, skipPush=True)
    found = results(post(platform, body))
    assert found[-1]["status"] == "success"
    log = [line for one in found for line in one["log"]]
    assert any("TEST_ENABLED" in line for line in log) and "s3cret" not in str(found)
    deploy(platform, "classic", "classic:1")
    assert platform.invoke("classic", "Ada").text.strip() == "Salve, Ada"


def test_a_client_that_does_not_follow_gets_one_object(platform: Live) -> None:
    answer = post(platform, archive(shrinkwrapped({"handler.py": HTTP}), "plain:1"), stream=False)
    result = json.loads(answer.text)
    assert answer.status == 200 and result["status"] == "success" and result["image"] == "plain:1" and result["log"]


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"handler.py": "def handle(event, context)\n"}, "function/handler.py:1"),
        ({"handler.py": HTTP, "requirements.txt": "-r other.txt\n"}, "requirements.txt:1"),
        ({"handler.py": "x = 1\n"}, "defines no `handle`"),
    ],
)
def test_a_failed_build_has_its_reason_in_the_clients_format(
    platform: Live, files: dict[str, str], reason: str
) -> None:
    found = results(post(platform, archive(shrinkwrapped(files), "broken:1")))
    assert found[-1]["status"] == "failed" and reason in found[-1]["error"]
    assert str(platform.settings.data) not in str(found)
    assert leftovers(platform) == []
    assert "broken:1" not in platform.system("GET", "/bundles").text


def test_other_templates_are_refused_with_the_reason(platform: Live) -> None:
    node = {"template.yml": "language: node22\n", "Dockerfile": "FROM node\n", "function/handler.js": ""}
    for context, named in ((node, "node22"), ({"Dockerfile": "FROM scratch\n"}, "Dockerfile")):
        found = results(post(platform, archive(context)))
        assert found[-1]["status"] == "failed" and named in found[-1]["error"] and "python3-http" in found[-1]["error"]


def test_only_the_payload_secret_opens_the_builder(platform: Live) -> None:
    body = archive(shrinkwrapped({"handler.py": HTTP}), "unsigned:1")
    good = headers(body, secret(platform))
    assert platform.call("POST", "/build", body, {**good, "X-Build-Signature": "sha256=" + "0" * 64}).status == 401
    assert platform.call("POST", "/build", body, headers(body, b"another")).status == 401
    assert platform.call("POST", "/build", body + b"\0", good).status == 401
    assert platform.call("POST", "/build", body, {**platform.authorization(), "Accept": "*/*"}).status == 401
    assert "unsigned:1" not in platform.system("GET", "/bundles").text
    assert leftovers(platform) == []
    file = platform.settings.secrets / "payload-secret"
    assert file.stat().st_mode & 0o777 == 0o600


def test_the_builder_has_a_public_key_for_build_secrets(platform: Live) -> None:
    answer = platform.call("GET", "/publickey")
    found = json.loads(answer.text)
    assert answer.status == 200 and found["algorithm"] == "nacl/box"
    assert len(base64.b64decode(found["public_key"], validate=True)) == 32


def test_clients_that_send_no_body_take_no_connection_of_the_api(platform: Live) -> None:
    """There are enough of them to take every connection to the API, if builds did not have their own."""
    head = (
        f"POST /build HTTP/1.1\r\nHost: gateway\r\nX-Build-Signature: sha256={'0' * 64}\r\nContent-Length: 1000\r\n\r\n"
    ).encode()
    clients = []
    try:
        for _ in range(950):
            client = socket.create_connection(("127.0.0.1", platform.port))
            client.sendall(head)
            clients.append(client)
        assert platform.system("GET", "/functions").seconds < 5
        assert platform.call("GET", "/healthz").seconds < 5
    finally:
        for client in clients:
            client.close()
    # builds go on when they have left
    platform.until(
        lambda: post(platform, archive(shrinkwrapped({"handler.py": HTTP}), "after:1")).status == 200, "a build"
    )


def test_requirements_are_installed(platform: Live) -> None:
    code = "import six\n\ndef handle(event, context):\n    return six.__version__\n"
    files = {"handler.py": code, "requirements.txt": "six==1.17.0\n"}
    assert results(post(platform, archive(shrinkwrapped(files), "six:1")))[-1]["status"] == "success"
    deploy(platform, "six", "six:1")
    assert platform.invoke("six").text == "1.17.0"


def test_a_client_that_leaves_ends_its_build(platform: Live) -> None:
    """The index never answers, so the installer waits until the platform ends the build."""
    with socket.create_server(("127.0.0.1", 0)) as index:
        line = f"--index-url http://127.0.0.1:{index.getsockname()[1]}/simple\nnothing-here==1\n"
        body = archive(shrinkwrapped({"handler.py": HTTP, "requirements.txt": line}), "left:1")
        connection = http.client.HTTPConnection("127.0.0.1", platform.port, timeout=60)
        connection.request("POST", "/build", body, headers(body, secret(platform)))
        response = connection.getresponse()
        assert json.loads(response.readline())["status"] == "in_progress"
        index.settimeout(30)
        asking, _ = index.accept()  # the installer runs
        assert leftovers(platform)
        connection.sock.close() if connection.sock else None
        response.close()
        platform.until(lambda: not leftovers(platform), "the build's folder to be gone")
        asking.settimeout(30)
        while asking.recv(65536):
            pass  # until the installer is gone too
        asking.close()


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
@pytest.mark.skipif(not shutil.which("setpriv"), reason="needs setpriv")
def test_without_root_an_installation_runs_no_code_of_packages() -> None:
    python = interpreter()
    if python is None:
        pytest.skip("needs a Python that others may execute")
    handler = {"handler.py": "import six\n" + HTTP}
    with readable_library() as library, UnprivilegedLive(library, python) as platform:
        for line, reason in (("docopt==0.6.2", "could not be installed"), ("-e x", "have wheels")):  # has no wheel
            body = archive(shrinkwrapped({**handler, "requirements.txt": f"{line}\n"}), "refused:1")
            last = results(post(platform, body))[-1]
            assert last["status"] == "failed" and reason in last["error"]
        body = archive(shrinkwrapped({**handler, "requirements.txt": "six==1.17.0\n"}), "wheel:1")
        assert results(post(platform, body))[-1]["status"] == "success"
        deploy(platform, "wheel", "wheel:1")
        assert platform.invoke("wheel", "Ada").text == "Hello, Ada"
