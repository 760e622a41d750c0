"""Bad input through the whole chain: each case gets a clear answer, and other functions do not notice."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import re
import shutil
import socket
import subprocess
import tarfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
from test_kill import Load

from rescoldo.bundle.manifest import Manifest, manifest_here
from support.gateway import HELLO, Answer
from support.live import Live, pss

pytestmark = pytest.mark.slow

ECHO = (
    "import json\n"
    "def handle(event, context):\n"
    "    return json.dumps({'method': event.method, 'path': event.path, 'query': dict(event.query),\n"
    "                       'size': len(event.body), 'headers': dict(event.headers)})\n"
)
HANGS = (
    "import asyncio, time\n"
    "def handle(event, context):\n"
    "    if event.body:\n"
    "        time.sleep(1000)\n"
    "    return 'fine'\n"
)
DEFAULT_LIMIT = 6 * 2**20  # bytes of a body


@pytest.fixture(scope="module")
def echo(platform: Live) -> Live:
    """The platform with an awake function `echo` and its neighbour `other`."""
    platform.deploy("echo", ECHO, annotations={"rescoldo.dev/idle-window": "10m"})
    platform.deploy("other", HELLO, annotations={"rescoldo.dev/idle-window": "10m"})
    assert platform.invoke("echo").status == platform.invoke("other").status == 200
    return platform


@pytest.fixture
def unnoticed(echo: Live) -> Iterator[None]:
    """Call `other` during the test; all of these calls must succeed."""
    with Load(echo, "other") as load:
        yield
        load.more(20)
    assert load.errors == {}


def raw(live: Live, data: bytes, *, timeout: float = 10.0) -> bytes:
    """Send bytes unchanged; return everything that comes back until the connection ends."""
    with socket.create_connection(("127.0.0.1", live.port), timeout=timeout) as client:
        client.sendall(data)
        received = b""
        while chunk := client.recv(65536):
            received += chunk
        return received


def request(path: bytes, *, method: bytes = b"GET", fields: bytes = b"", body: bytes = b"") -> bytes:
    return method + b" " + path + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + fields + b"\r\n" + body


def status_of(answer: bytes) -> int:
    match = re.match(rb"HTTP/1\.[01] (\d{3}) ", answer)
    assert match, answer[:200]
    return int(match[1])


def json_of(answer: bytes) -> Any:
    return json.loads(answer.partition(b"\r\n\r\n")[2])


def upload_unchecked(live: Live, image: str, code: str, manifest: Manifest | None = None) -> Answer:
    """Upload a bundle that our builder would refuse, as a client without our builder may send it."""
    packed = io.BytesIO()
    files = {
        "manifest.json": (manifest or manifest_here("python3-http", "http")).to_text(),
        "function/handler.py": code,
    }
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    return live.system("POST", f"/bundles?image={image}", packed.getvalue())


def deploy_unchecked(live: Live, name: str, code: str, **spec: Any) -> None:
    answer = upload_unchecked(live, f"{name}:test", code)
    assert answer.status == 201, answer.text
    live.deploy(name, image=f"{name}:test", **spec)


# -- names and paths


@pytest.mark.parametrize("name", ["nope", "nope.openfaas-fn", "echo.other-namespace", "ECHO", "-", "*", "..", "a.b.c"])
def test_an_unknown_function_gets_a_404_that_names_it(echo: Live, name: str) -> None:
    answer = echo.invoke(name)
    assert (answer.status, answer.headers["x-openfaas-internal"]) == (404, "proxy")
    assert f"function {name}" in answer.text
    assert "rescoldo list" in answer.text


@pytest.mark.parametrize("path", ["/function/", "/function//x"])
def test_a_call_without_a_functions_name_gets_a_400_and_is_not_counted(echo: Live, path: str) -> None:
    answer = echo.call("GET", path)
    assert (answer.status, answer.headers["x-openfaas-internal"]) == (400, "proxy")
    assert "/function/NAME" in answer.text
    counted = echo.invocations("echo")
    assert echo.invoke("echo").status == 200
    echo.until(lambda: echo.invocations("echo") > counted, "a later call to be counted")
    metrics = echo.call("GET", "/metrics", headers=echo.authorization()).text
    assert 'function_name="echo.openfaas-fn"' in metrics
    assert 'function_name=".' not in metrics
    assert 'function_name=""' not in metrics


@pytest.mark.parametrize("path", [b"/function/%65cho", b"/function/echo%2fx", b"/function/echo;x=1"])
def test_paths_that_only_resemble_a_function_are_not_found(echo: Live, path: bytes) -> None:
    assert status_of(raw(echo, request(path))) == 404


def test_a_name_of_10_000_characters_is_not_found(echo: Live) -> None:
    assert status_of(raw(echo, request(b"/function/" + b"x" * 10_000))) == 404


@pytest.mark.parametrize(
    ("sent", "seen"),
    [
        ("/function/echo", "/"),
        ("/function/echo/", "/"),
        ("/function/echo.openfaas-fn/x", "/x"),
        ("/function/echo//a//b", "//a//b"),
        ("/function/echo/%2e%2e/x", "/../x"),
        ("/function/echo/../../system/functions", "/../../system/functions"),
        ("/function/echo/a%20b%00c", "/a b\0c"),
        ("/function/echo/%zz", "/%zz"),
        ("/function/echo/?", "/"),
    ],
)
def test_the_path_after_the_name_reaches_the_function_unchanged(echo: Live, sent: str, seen: str) -> None:
    assert json_of(raw(echo, request(sent.encode())))["path"] == seen


def test_any_query_reaches_the_function(echo: Live) -> None:
    answer = raw(echo, request(b"/function/echo?a=1&a=2&b=%00&c&=d&e=%ff&f=/function/other"))
    assert json_of(answer)["query"] == {"a": "1", "b": "\0", "c": "", "": "d", "e": "�", "f": "/function/other"}


@pytest.mark.parametrize(
    "path", [b"//function/echo", b"/Function/echo", b"/nothing", b"/function", b"/./function/echo"]
)
def test_other_paths_need_the_gateways_password(echo: Live, path: bytes) -> None:
    assert status_of(raw(echo, request(path))) == 401


@pytest.mark.parametrize("path", [b"/-/metrics", b"/%2d/metrics", b"/%2D/metrics", b"//-/metrics", b"/x/../-/metrics"])
def test_no_spelling_opens_inner_pages_on_the_public_port(echo: Live, path: bytes) -> None:
    answer = raw(echo, request(path))
    assert status_of(answer) in (401, 404)
    assert b"gateway_function" not in answer


def test_a_header_of_the_client_cannot_name_another_function(echo: Live) -> None:
    answer = raw(echo, request(b"/function/echo", fields=b"X-Rescoldo-Function: other.openfaas-fn\r\n"))
    assert json_of(answer)["path"] == "/"


# -- methods and versions of HTTP


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"])
def test_any_method_reaches_the_function(echo: Live, method: str) -> None:
    assert json.loads(echo.call(method, "/function/echo").text)["method"] == method


def test_head_is_answered_without_a_body(echo: Live) -> None:
    head, _, body = raw(echo, request(b"/function/echo", method=b"HEAD")).partition(b"\r\n\r\n")
    assert status_of(head) == 200
    assert b"content-length: " in head.lower()
    assert body == b""


@pytest.mark.parametrize("method", [b"BREW", b"get", b"G@T", b"CONNECT"])
def test_an_unknown_method_gets_a_400(echo: Live, method: bytes) -> None:
    assert status_of(raw(echo, request(b"/function/echo", method=method))) == 400


def test_the_gateway_speaks_http_1_0(echo: Live) -> None:
    answer = raw(echo, b"GET /function/echo HTTP/1.0\r\n\r\n")
    assert status_of(answer) == 200
    assert json_of(answer)["method"] == "GET"


def test_pipelined_requests_are_answered_in_order(echo: Live) -> None:
    one = b"GET /function/echo/%d HTTP/1.1\r\nHost: x\r\n\r\n"
    answer = raw(echo, b"".join(one % number for number in range(5)) + request(b"/function/echo/5"))
    assert re.findall(rb'"path": "(/\d)"', answer) == [b"/%d" % number for number in range(6)]


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
def test_the_gateway_speaks_http_2_with_prior_knowledge(echo: Live) -> None:
    url = f"http://127.0.0.1:{echo.port}/function/echo/two"
    command = ["curl", "-sS", "-m10", "--http2-prior-knowledge", "-w", "\n%{http_version}", "-d", "abc", url]
    if "HTTP2" not in subprocess.run(["curl", "--version"], capture_output=True, text=True, check=True).stdout:
        pytest.skip("this curl has no HTTP/2")
    body, _, version = subprocess.run(command, capture_output=True, text=True, check=True).stdout.rpartition("\n")
    assert version == "2"
    assert json.loads(body)["size"] == 3


@pytest.mark.parametrize(
    "wish", [b"h2c", b"websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eHh4eHh4eHh4eHh4eHh4eA=="]
)
def test_an_upgrade_request_is_ignored(echo: Live, wish: bytes) -> None:
    fields = b"GET /function/echo HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: " + wish + b"\r\n\r\n"
    answer = raw(echo, fields + request(b"/function/echo"))
    assert status_of(answer) == 200
    assert b" 101 " not in answer


def test_a_body_may_wait_for_100_continue(echo: Live) -> None:
    with socket.create_connection(("127.0.0.1", echo.port), timeout=10) as client:
        client.sendall(
            request(b"/function/echo", method=b"POST", fields=b"Expect: 100-continue\r\nContent-Length: 3\r\n")
        )
        assert client.recv(65536).startswith(b"HTTP/1.1 100 ")
        client.sendall(b"abc")
        answer = b""
        while chunk := client.recv(65536):
            answer += chunk
    assert json_of(answer)["size"] == 3


def test_any_other_expectation_fails(echo: Live) -> None:
    answer = raw(echo, request(b"/function/echo", method=b"POST", fields=b"Expect: tea\r\nContent-Length: 0\r\n"))
    assert status_of(answer) == 417


@pytest.mark.usefixtures("unnoticed")
@pytest.mark.parametrize(
    "data",
    [
        b"\0\1\2\3\r\n\r\n",
        b"GET /function/echo\r\n",
        bytes.fromhex("16030100c8010000c40303") + b"\0" * 200,  # a TLS handshake
        b"GET /function/echo HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /function/echo HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n",
        b"GET /function/\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
        request(b"/function/echo", method=b"POST", fields=b"Content-Length: -3\r\n"),
        request(b"/function/echo", method=b"POST", fields=b"Content-Length: 3\r\nContent-Length: 4\r\n", body=b"abcd"),
        request(b"/function/echo", method=b"POST", fields=b"Content-Length: 99999999999999999999999\r\n"),
        request(b"/function/echo", method=b"POST", fields=b"Transfer-Encoding: gzip\r\n", body=b"zzz"),
        request(b"/function/echo", method=b"POST", fields=b"Transfer-Encoding: chunked\r\n", body=b"zz\r\nabc"),
    ],
)
def test_a_request_that_is_not_http_gets_a_400_and_ends_the_connection(echo: Live, data: bytes) -> None:
    assert status_of(raw(echo, data)) == 400


def test_a_request_without_host_gets_a_400_that_names_the_header(echo: Live) -> None:
    answer = raw(echo, b"GET /function/echo HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert status_of(answer) == 400
    assert b"Host header" in answer


def test_chunks_take_precedence_over_a_length(echo: Live) -> None:
    """A request with both cannot smuggle a second one."""
    fields = b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n"
    smuggled = b"0\r\n\r\nGET /function/other HTTP/1.1\r\nHost: x\r\n\r\n"
    answer = raw(echo, request(b"/function/echo", method=b"POST", fields=fields, body=smuggled))
    assert answer.count(b"HTTP/1.1 ") == 1
    assert json_of(answer)["size"] == 0


# -- sizes


@pytest.mark.usefixtures("unnoticed")
@pytest.mark.parametrize(
    "data",
    [
        request(b"/function/echo", fields=b"X: " + b"a" * 20_000 + b"\r\n"),
        request(b"/function/echo", fields=b"".join(b"X-%d: a\r\n" % number for number in range(2000))),
        request(b"/function/echo/" + b"x" * 20_000),
        request(b"/function/echo?" + b"x" * 20_000),
    ],
    ids=["one header", "many headers", "path", "query"],
)
def test_a_head_over_16_kib_gets_a_400_and_ends_the_connection(echo: Live, data: bytes) -> None:
    assert status_of(raw(echo, data)) == 400


def test_a_head_below_16_kib_arrives_whole(echo: Live) -> None:
    seen = json_of(raw(echo, request(b"/function/echo", fields=b"X-Long: " + b"a" * 14_000 + b"\r\n")))
    assert seen["headers"]["X-Long"] == "a" * 14_000


@pytest.mark.usefixtures("unnoticed")
@pytest.mark.parametrize("length", [DEFAULT_LIMIT + 1, 2**32 + 5, 2**63 - 1])
def test_too_large_a_length_gets_a_413_that_names_the_limit(echo: Live, length: int) -> None:
    with socket.create_connection(("127.0.0.1", echo.port), timeout=10) as client:
        client.sendall(request(b"/function/echo", method=b"POST", fields=b"Content-Length: %d\r\n" % length))
        answer = client.recv(65536)
    assert status_of(answer) == 413
    assert str(DEFAULT_LIMIT).encode() in answer


@pytest.mark.usefixtures("unnoticed")
def test_a_chunked_body_that_grows_too_large_gets_a_413(echo: Live) -> None:
    """The gateway may cut off data after its refusal, so the test sends just enough to exceed the limit."""
    with socket.create_connection(("127.0.0.1", echo.port), timeout=10) as client:
        client.sendall(request(b"/function/echo", method=b"POST", fields=b"Transfer-Encoding: chunked\r\n"))
        chunk = b"10000\r\n" + b"a" * 65536 + b"\r\n"
        for _ in range(DEFAULT_LIMIT // 65536 + 1):
            client.sendall(chunk)
        answer = client.recv(65536)
    assert status_of(answer) == 413
    assert str(DEFAULT_LIMIT).encode() in answer


def test_a_body_of_exactly_the_limit_arrives(echo: Live) -> None:
    assert json.loads(echo.invoke("echo", b"x" * DEFAULT_LIMIT).text)["size"] == DEFAULT_LIMIT


def test_a_function_may_have_its_own_body_limit(echo: Live) -> None:
    echo.deploy("small", ECHO, annotations={"rescoldo.dev/max-body": "1Ki"})
    assert json.loads(echo.invoke("small", b"x" * 1024).text)["size"] == 1024
    answer = echo.invoke("small", b"x" * 1025)
    assert answer.status == 413
    assert "1024 bytes" in answer.text


# -- the API


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "not valid"),
        (b"{", "not valid JSON"),
        (b"[]", "object"),
        (b"\xff\xfe", "not valid JSON"),
        (b"[" * 5000, "not valid JSON"),
        (b'{"service": "a"}', "image"),
        (b'{"service": 1, "image": "x"}', "service"),
        (b'{"service": "A_b", "image": "x"}', "'A_b'"),
        (b'{"service": "%s", "image": "x"}' % (b"a" * 10_000), "1 to 63 characters"),
        (b'{"service": "a", "image": "never-built:1"}', "run `rescoldo up`"),
        (b'{"service": "a", "image": "echo:test", "envVars": {"A": 1}}', "envVars.A"),
        (b'{"service": "a", "image": "echo:test", "envVars": {"A=B": "1"}}', "'A=B'"),
        (b'{"service": "a", "image": "echo:test", "secrets": ["s"]}', "rescoldo secret create s"),
        (b'{"service": "a", "image": "echo:test", "secrets": ["../s"]}', "'../s'"),
        (
            b'{"service": "a", "image": "echo:test", "labels": {"com.openfaas.scale.min": "x"}}',
            "com.openfaas.scale.min",
        ),
        (b'{"service": "a", "image": "echo:test", "annotations": {"rescoldo.dev/concurrency": "-1"}}', "concurrency"),
        (
            b'{"service": "a", "image": "echo:test", "annotations": {"rescoldo.dev/ready-timeout": "9h"}}',
            "ready-timeout",
        ),
        (b'{"service": "a", "image": "echo:test", "limits": {"memory": "much"}}', "limits.memory"),
    ],
)
def test_a_bad_deployment_gets_a_400_that_names_the_field(echo: Live, body: bytes, said: str) -> None:
    answer = echo.system("POST", "/functions", body)
    assert answer.status == 400, answer.text
    assert said in answer.text


def test_an_unknown_namespace_gets_a_404_that_names_it(echo: Live) -> None:
    answer = echo.system("POST", "/functions", {"service": "a", "image": "echo:test", "namespace": "nowhere"})
    assert answer.status == 404
    assert "nowhere" in answer.text


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/functions", {"service": "nope", "image": "echo:test"}),
        ("DELETE", "/functions", {"functionName": "nope"}),
        ("POST", "/scale-function/nope", {"replicas": 1}),
        ("GET", "/function/nope", None),
        ("GET", "/logs?name=nope", None),
    ],
)
def test_the_api_answers_404_for_an_unknown_function(echo: Live, method: str, path: str, body: Any) -> None:
    assert echo.system(method, path, body).status == 404


@pytest.mark.parametrize("replicas", [-1, 101, 10**30, "many", None])
def test_a_bad_number_of_replicas_gets_a_400(echo: Live, replicas: Any) -> None:
    answer = echo.system("POST", "/scale-function/echo", {"replicas": replicas})
    assert answer.status == 400
    assert "replicas" in answer.text


def test_a_json_body_over_1_mib_gets_a_413(echo: Live) -> None:
    assert echo.system("POST", "/functions", b"x" * 2_000_000).status == 413


@pytest.mark.parametrize("user", ["admin:wrong", "admin:", ":", "nobody", "é:é"])
def test_a_wrong_password_gets_a_401(echo: Live, user: str) -> None:
    value = "Basic " + base64.b64encode(user.encode()).decode()
    answer = echo.call("GET", "/system/functions", headers={"Authorization": value})
    assert answer.status == 401
    assert answer.headers["www-authenticate"].startswith("Basic")


def test_an_asynchronous_call_gets_a_501_with_the_reason(echo: Live) -> None:
    answer = echo.call("POST", "/async-function/echo", headers=echo.authorization())
    assert answer.status == 501
    assert "do not exist yet" in answer.text


# -- bundles


def test_an_upload_that_is_no_bundle_gets_a_400(echo: Live) -> None:
    answer = echo.system("POST", "/bundles?image=x:1", b"not gzip")
    assert answer.status == 400
    assert "gzip" in answer.text


def test_an_upload_that_breaks_off_leaves_nothing_behind(echo: Live) -> None:
    with socket.create_connection(("127.0.0.1", echo.port), timeout=10) as client:
        authorization = "".join(f"{name}: {value}\r\n" for name, value in echo.authorization().items()).encode()
        client.sendall(
            request(b"/system/bundles?image=x:1", method=b"POST", fields=authorization + b"Content-Length: 1000000\r\n")
            + b"\x1f\x8b"
            + b"x" * 100_000
        )
        echo.until(lambda: list(echo.settings.uploads.iterdir()), "the upload to begin")
    echo.until(lambda: not list(echo.settings.uploads.iterdir()), "the partial upload to be removed")
    assert "UnicodeEncodeError" not in echo.log()


def test_a_bundle_for_another_python_gets_a_400_that_names_both(echo: Live) -> None:
    here = manifest_here("python3-http", "http")
    answer = upload_unchecked(echo, "old:1", HELLO, dataclasses.replace(here, python="3.4"))
    assert answer.status == 400
    assert "3.4" in answer.text
    assert here.python in answer.text


def test_a_bundle_for_another_machine_gets_a_400_that_names_both(echo: Live) -> None:
    here = manifest_here("python3-http", "http")
    answer = upload_unchecked(echo, "old:1", HELLO, dataclasses.replace(here, arch="vax"))
    assert answer.status == 400
    assert "vax" in answer.text
    assert here.arch in answer.text


# -- handlers that cannot be imported


@pytest.mark.usefixtures("unnoticed")
@pytest.mark.parametrize(
    ("code", "reason", "logged"),
    [
        ("def handle(event, context)\n    pass\n", "handler.py line 1: SyntaxError", "SyntaxError"),
        ("import json\n1 / 0\n" + HELLO, "handler.py line 2: ZeroDivisionError", "Traceback"),
        ("import nowhere_to_be_found\n" + HELLO, "ModuleNotFoundError", "Traceback"),
        ("import sys\nsys.exit(3)\n" + HELLO, "sys.exit(3) was called", "SystemExit"),
        ("import os\nprint('here')\nos._exit(5)\n" + HELLO, "exit status 5", "here"),
        ("import ctypes\nprint('here')\nctypes.string_at(0)\n" + HELLO, "SIGSEGV", "here"),
        ("handle = 5\n", "handle is int", "not a function"),
        ("x = 5\n", "no function named handle", "no function named handle"),
        ("def handle(a, b, c):\n    pass\n", "cannot be called as handle(event, context)", "cannot be called"),
        ("raise KeyboardInterrupt\n", "KeyboardInterrupt", "KeyboardInterrupt"),
    ],
)
def test_a_handler_that_cannot_be_imported_gets_a_502_with_the_reason_and_a_log(
    echo: Live, code: str, reason: str, logged: str
) -> None:
    name = f"broken-{abs(hash(code)) % 10**9}"
    deploy_unchecked(echo, name, code)
    answer = echo.invoke(name)
    assert answer.status == 502
    assert reason in answer.text
    echo.until(lambda: logged in echo.function_log(name), f"{logged!r} in the log")


def test_a_bundle_without_its_handler_gets_a_502(echo: Live) -> None:
    manifest = dataclasses.replace(manifest_here("python3-http", "http"), handler="function.absent")
    assert upload_unchecked(echo, "absent:1", HELLO, manifest).status == 201
    echo.deploy("absent", image="absent:1")
    answer = echo.invoke("absent")
    assert answer.status == 502
    assert "absent.py is missing" in answer.text


@pytest.mark.usefixtures("unnoticed")
def test_a_handler_that_hangs_at_import_gets_a_504_at_its_ready_timeout(echo: Live) -> None:
    code = "import time\nprint('importing')\ntime.sleep(1000)\n" + HELLO
    echo.deploy("hung-import", code, annotations={"rescoldo.dev/ready-timeout": "700ms"})
    answer = echo.invoke("hung-import")
    assert answer.status == 504
    assert 0.7 <= answer.seconds < 5
    assert "0.7 s" in answer.text
    assert "importing" in answer.text, "the response lacks the last printed lines"


def test_after_a_failed_start_the_next_call_gets_the_reason_at_once_until_a_redeploy(echo: Live) -> None:
    code = "print('TRY')\n1 / 0\n" + HELLO
    echo.deploy("failing", code)
    first = echo.invoke("failing")
    assert (first.status, int(first.headers["retry-after"])) == (502, 1)
    for _ in range(5):  # each failure doubles the pause: soon a call falls into one
        again = echo.invoke("failing")
        assert (again.status, again.text) == (502, first.text)
        if again.seconds < 0.2:
            break
    tries = echo.function_log("failing").count("TRY")
    assert tries < 6
    echo.deploy("failing", HELLO)
    answer = echo.invoke("failing")
    assert (answer.status, answer.text) == (200, "hello")


def test_a_failed_start_is_retried_after_its_pause(echo: Live) -> None:
    """The retry needs no redeploy: the cause of the failure may be gone."""
    code = f"import time\nassert time.time() > {time.time() + 2}, 'too early'\n" + HELLO
    echo.deploy("recovers", code)
    answer = echo.invoke("recovers")
    assert answer.status == 502
    assert "too early" in answer.text
    echo.until(lambda: echo.invoke("recovers").status == 200, "the function to start")


# -- handlers that misbehave in a call


@pytest.mark.usefixtures("unnoticed")
@pytest.mark.parametrize(
    ("body", "status", "text", "logged"),
    [
        ("    raise ValueError('secret detail')\n", 500, "raised ValueError", "secret detail"),
        ("    import sys\n    sys.exit(3)\n", 500, "SystemExit", "SystemExit"),
        ("    return object()\n", 500, "invalid response", "object"),
        ("    return {'statusCode': 'many'}\n", 500, "invalid response", "statusCode"),
        ("    return {'statusCode': 99}\n", 500, "invalid response", "99"),
        ("    return {'statusCode': 1000}\n", 500, "invalid response", "1000"),
        ("    return {'headers': {'X': 'a\\r\\nSet-Cookie: b'}}\n", 500, "invalid response", "header"),
        ("    return {'headers': {'X': 'a' * 14_332}}\n", 500, "invalid response", "1 headers of 14337 bytes"),
        ("    return {'headers': {'X': ['a'] * 91}}\n", 500, "invalid response", "91 headers of 546 bytes"),
        ("    return {'body': {1, 2}}\n", 500, "invalid response", "body"),
        ("    def f(): return f()\n    f()\n", 500, "RecursionError", "RecursionError"),
        ("    import os\n    print('leaving', flush=True)\n    os._exit(9)\n", 502, "ended", "leaving"),
    ],
)
def test_a_handler_that_fails_in_a_call_gets_an_answer_and_a_log(
    echo: Live, body: str, status: int, text: str, logged: str
) -> None:
    name = f"fails-{abs(hash(body)) % 10**9}"
    echo.deploy(name, "def handle(event, context):\n    if event.method == 'GET':\n        return 'fine'\n" + body)
    assert echo.invoke(name).text == "fine"
    answer = echo.invoke(name, b"x")
    assert answer.status == status, answer.text
    assert text in answer.text
    assert "secret detail" not in answer.text
    assert "Set-Cookie" not in str(answer.headers)
    echo.until(lambda: logged in echo.function_log(name), f"{logged!r} in the log")
    assert echo.invoke(name).text == "fine"


def test_the_most_headers_that_a_function_may_return_pass_the_edge(echo: Live) -> None:
    fields = {f"X-{number:02}": "a" * (14 * 2**10 // 90 - 8) for number in range(90)}
    echo.deploy("headers", f"def handle(event, context):\n    return {{'headers': {fields!r}}}\n")
    answer = echo.invoke("headers")
    assert answer.status == 200, answer.text
    assert fields.items() <= {name.upper(): value for name, value in answer.headers.items()}.items()


@pytest.mark.usefixtures("unnoticed")
@pytest.mark.parametrize("kind", ["def", "async def"])
def test_a_call_that_hangs_gets_a_504_at_its_deadline_and_the_next_call_works(echo: Live, kind: str) -> None:
    name = f"hangs-{len(kind)}"
    code = HANGS if kind == "def" else HANGS.replace("def", "async def").replace("time.sleep", "await asyncio.sleep")
    echo.deploy(name, code, envVars={"exec_timeout": "500ms"})
    assert echo.invoke(name).text == "fine"
    answer = echo.invoke(name, b"hang")
    assert answer.status == 504
    assert "0.5 s" in answer.text
    assert answer.seconds < 5
    assert echo.invoke(name).text == "fine"


@pytest.mark.usefixtures("unnoticed")
def test_an_async_handler_that_blocks_its_loop_gets_a_504_and_its_instance_is_replaced(echo: Live) -> None:
    echo.deploy("blocks", HANGS.replace("def", "async def"), envVars={"exec_timeout": "500ms"})
    assert echo.invoke("blocks").text == "fine"
    answer = echo.invoke("blocks", b"block")
    assert answer.status == 504
    assert answer.seconds < 10
    assert echo.invoke("blocks").status == 200


@pytest.mark.usefixtures("unnoticed")
def test_a_handler_that_prints_without_end_harms_no_other_function(echo: Live) -> None:
    code = (
        "import os, threading\n"
        "def flood():\n"
        "    while True:\n"
        "        os.write(1, b'x' * 65536)\n"
        "def handle(event, context):\n"
        "    threading.Thread(target=flood, daemon=True).start()\n"
        "    return 'flooding'\n"
    )
    echo.deploy("flood", code)
    before = pss(echo.pid("node"))
    assert echo.invoke("flood").text == "flooding"
    echo.until(lambda: "output dropped" in echo.function_log("flood"), "output to be dropped")
    assert echo.invoke("echo").status == 200
    assert pss(echo.pid("node")) - before < 16 * 2**20
    assert sum(file.stat().st_size for file in echo.settings.logs.glob("flood.*")) < 4 * 2**20
    assert echo.system("DELETE", "/functions", {"functionName": "flood"}).status == 202


def test_with_a_concurrency_of_one_an_instance_never_runs_two_calls(echo: Live) -> None:
    code = (
        "import threading, time\n"
        "running = most = 0\n"
        "lock = threading.Lock()\n"
        "def handle(event, context):\n"
        "    global running, most\n"
        "    with lock:\n"
        "        running += 1\n"
        "        most = max(most, running)\n"
        "    time.sleep(0.01)\n"
        "    with lock:\n"
        "        running -= 1\n"
        "    return str(most)\n"
    )
    echo.deploy("single", code, annotations={"rescoldo.dev/concurrency": "1"})
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: echo.invoke("single"), range(64)))
    assert {answer.status for answer in answers} == {200}
    assert {answer.text for answer in answers} == {"1"}


# -- clients that leave


def held(live: Live) -> int:
    return int(json.loads(live.system("GET", "/status").text)["held"])


@pytest.mark.usefixtures("unnoticed")
def test_held_clients_that_leave_free_their_places_before_the_wake_ends(echo: Live) -> None:
    start = "import time\nprint('START')\ntime.sleep(1.5)\n"
    code = f"{start}def handle(event, context):\n    print('CALL')\n    return 'x'\n"
    echo.deploy("late", code)
    with ExitStack() as clients:
        for _ in range(50):
            client = clients.enter_context(socket.create_connection(("127.0.0.1", echo.port)))
            client.sendall(b"GET /function/late HTTP/1.1\r\nHost: x\r\n\r\n")
        echo.until(lambda: held(echo) == 50, "all calls to be held")
    echo.until(lambda: held(echo) == 0, "the places to be free")
    assert echo.replicas("late") == 0, "the function is already ready, so something else may have freed the places"
    assert echo.invoke("late").status == 200
    assert (echo.function_log("late").count("START"), echo.function_log("late").count("CALL")) == (1, 1)


@pytest.mark.usefixtures("unnoticed")
def test_clients_that_leave_in_a_call_do_not_end_it(echo: Live) -> None:
    code = "import time\ndef handle(event, context):\n    print('BEGUN')\n    time.sleep(0.5)\n    print('DONE')\n"
    echo.deploy("finishes", code)
    with socket.create_connection(("127.0.0.1", echo.port)) as client:
        client.sendall(request(b"/function/finishes", method=b"POST", fields=b"Content-Length: 1\r\n", body=b"x"))
        echo.until(lambda: "BEGUN" in echo.function_log("finishes"), "the function to be called")
    echo.until(lambda: "DONE" in echo.function_log("finishes"), "the call to end")
    assert echo.function_log("finishes").count("DONE") == 1


def test_clients_that_send_their_head_slowly_do_not_delay_others(echo: Live) -> None:
    clients = [socket.create_connection(("127.0.0.1", echo.port)) for _ in range(50)]
    try:
        for client in clients:
            client.sendall(b"GET /function/echo HTTP/1.1\r\nHost: x\r\nX-Half:")
        assert echo.invoke("echo").seconds < 2
    finally:
        for client in clients:
            client.close()


def test_a_failure_with_half_a_character_is_shown_everywhere_without_escapes(echo: Live, unnoticed: None) -> None:
    code = "print('\\x1b[2Jwiped')\nraise ValueError('half \\ud800 of \\x1b[2J it')\ndef handle(event, context): ...\n"
    echo.deploy("half", code, annotations={"rescoldo.dev/rollout": "immediate"})
    began = time.monotonic()
    answer = echo.invoke("half")
    assert time.monotonic() - began < 20
    assert (answer.status, "ValueError: half" in answer.text) == (502, True)
    assert "\x1b" not in answer.text
    update = echo.system("PUT", "/functions", {"service": "half", "image": "half:test", "labels": {"again": "1"}})
    assert update.status == 400
    told = [update, echo.system("GET", "/function/half/revisions"), echo.system("GET", "/function/half?why=1")]
    assert [each.status for each in told] == [400, 200, 200]
    assert not any("\x1b" in each.text or "\\u001b" in each.text for each in told)
    assert "\x1b" not in echo.log()
    assert "UnicodeEncodeError" not in echo.log()
