"""Limits of functions through a whole platform; each part's own tests are elsewhere (edge, runtime, model)."""

from __future__ import annotations

import http.client
import json
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.live import Live
from support.programs import write_server

pytestmark = pytest.mark.slow

OURS = "rescoldo.dev/"
CODE = {
    "plain": "def handle(event, context):\n    print('called')\n    return {0}\n",
    "awaits": "async def handle(event, context):\n    print('called')\n    return {0}\n",
}


def raw(live: Live, data: bytes, *, close: bool = False) -> bytes:
    """Send `data`; return the edge's answers until the connection ends."""
    with socket.create_connection(("127.0.0.1", live.port), 20) as client:
        client.sendall(data)
        if close:
            client.shutdown(socket.SHUT_WR)
        found = b""
        while chunk := client.recv(65536):
            found += chunk
        return found


def calls(live: Live, name: str) -> int:
    return live.function_log(name).count("called")


@pytest.fixture(scope="module", params=["plain", "awaits", "program"])
def small(request: pytest.FixtureRequest, platform: Live, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Deploy a function of each kind that takes at most 1,000 bytes, and returns at most 1,000 if it is a handler."""
    kind = str(request.param)
    notes = {OURS + "max-body": "1000"}
    if kind == "program":
        folder = write_server(tmp_path_factory.mktemp("program")).parent
        platform.deploy_program(kind, folder, "server", "inherited", annotations=notes)
        notes |= {OURS + "max-response": "100"}  # the program returns more
        platform.deploy("terse", image=f"{kind}:test", envProcess="server", annotations=notes,
                        envVars={"mode": "http", "upstream_url": "inherited"})  # fmt: skip
    else:
        notes |= {OURS + "max-response": "1000"}
        platform.deploy(kind, CODE[kind].format("'x' * int(event.query.get('size', '1'))"), annotations=notes)
    return kind


def test_a_length_over_the_limit_gets_a_413_for_every_kind(platform: Live, small: str) -> None:
    head = f"POST /function/{small} HTTP/1.".encode()
    announced = b"\r\nHost: x\r\nConnection: close\r\nContent-Length: 1001\r\n"
    for request in (
        head + b"1" + announced + b"\r\n" + b"x" * 1001,
        head + b"1" + announced + b"Expect: 100-continue\r\n\r\n",  # refused before the 100 Continue
        head + b"0" + announced + b"\r\n" + b"x" * 1001,
    ):
        answer = raw(platform, request)
        assert answer.startswith(b"HTTP/1.1 413 "), answer[:200]
        assert b"larger than the 1000 bytes" in answer


def test_a_chunked_body_over_the_limit_gets_a_413_for_handlers(platform: Live, small: str) -> None:
    chunked = f"POST /function/{small} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n"
    body = b"%x\r\n%s\r\n" % (600, b"x" * 600) * 2 + b"0\r\n\r\n"
    for expects in ("", "Expect: 100-continue\r\n"):
        answer = raw(platform, f"{chunked}{expects}\r\n".encode() + body)
        # for programs the edge checks only the Content-Length
        expected = b"HTTP/1.1 200 " if small == "program" else b"HTTP/1.1 413 "
        assert answer.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n").startswith(expected), answer[:200]


def test_a_body_shorter_than_its_length_reaches_no_handler(platform: Live, small: str) -> None:
    if small == "program":
        pytest.skip("a program reads its requests itself")
    assert platform.invoke(small).status == 200
    before = calls(platform, small)
    answer = raw(platform, f"POST /function/{small} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nshort".encode(),
                 close=True)  # fmt: skip
    assert b" 200 " not in answer[:20]
    assert platform.invoke(small).status == 200
    platform.until(lambda: calls(platform, small) >= before + 1, "the call to be logged")
    assert calls(platform, small) == before + 1


def test_bytes_beyond_the_length_are_another_request_that_gets_a_400(platform: Live, small: str) -> None:
    head = f"POST /function/{small} HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n".encode()
    answer = raw(platform, head + b"abcGARBAGE\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ") and answer.count(b"HTTP/1.1 400 ") == 1, answer


def test_an_answer_over_the_limit_gets_a_413_for_every_kind(platform: Live, small: str) -> None:
    name, most = ("terse", 100) if small == "program" else (small, 1000)
    answer = platform.invoke(name + "?size=1001")
    assert answer.status == 413 and answer.text.startswith(f"the function's response is larger than the {most} bytes")
    if small != "program":
        platform.until(lambda: "a response of 1001 bytes is larger" in platform.function_log(small), "the line")
        assert platform.invoke(small + "?size=1000").body == b"x" * 1000


@pytest.mark.parametrize("word", ["", "async "])
def test_a_stream_over_the_limit_is_cut_and_logged(platform: Live, word: str) -> None:
    name = f"stream{len(word)}"
    code = f"{word}def handle(event, context):\n    for _ in range(100): yield 'x' * 1000\n"
    platform.deploy(name, code, annotations={OURS + "max-response": "50000"})
    with pytest.raises(http.client.IncompleteRead) as cut:
        platform.invoke(name)
    assert len(cut.value.partial) <= 50_000
    platform.until(lambda: "was cut at the 50000 bytes" in platform.function_log(name), "the line")


def test_without_a_queue_the_next_call_gets_of_watchdogs_refusal(platform: Live) -> None:
    code = "import time\ndef handle(event, context):\n    time.sleep(1)\n    return 'done'\n"
    platform.deploy("full", code, envVars={"max_inflight": "1"}, annotations={OURS + "max-queue": "0"},
                    labels={"com.openfaas.scale.max": "1"})  # fmt: skip
    with ThreadPoolExecutor() as pool:
        first = pool.submit(platform.invoke, "full")
        platform.until(lambda: platform.replicas("full") == 1, "an instance")
        refused = []

        def full() -> bool:
            answer = platform.invoke("full")
            if answer.status == 429:
                refused.append(answer)
            return bool(refused)

        platform.until(full, "a refusal")
        assert first.result().text == "done"
    assert refused[0].text == "Concurrent request limit exceeded. Max concurrent requests: 1\n"
    assert (refused[0].headers["retry-after"], refused[0].headers["x-openfaas-internal"]) == ("1", "faas-middleware")


OVERLAPS = """
import threading, time, uuid
ME, lock, now, most = uuid.uuid4().hex, threading.Lock(), 0, 0
def handle(event, context):
    global now, most
    with lock:
        now += 1
        most = max(most, now)
    time.sleep(0.005)
    with lock:
        now -= 1
    return f"{ME} {most}"
"""


def test_with_a_concurrency_of_one_no_instance_of_three_has_two_calls(platform: Live) -> None:
    platform.deploy("single", OVERLAPS, annotations={OURS + "concurrency": "1"})
    platform.system("POST", "/scale-function/single", {"serviceName": "single", "replicas": 3})
    platform.until(lambda: platform.replicas("single") == 3, "three instances")

    def client(number: int) -> set[str]:
        kept = http.client.HTTPConnection("127.0.0.1", platform.port, timeout=30)
        seen = set()
        for turn in range(30):
            kept.request(("GET", "POST")[(number + turn) % 2], "/function/single", b"" if number % 3 else b"x")
            seen.add(kept.getresponse().read().decode())
        kept.close()
        return seen

    with ThreadPoolExecutor(10) as pool:
        seen = set().union(*pool.map(client, range(10)))
    assert {answer.split()[1] for answer in seen} == {"1"} and len(seen) >= 3


def test_the_annotation_limits_open_files(platform: Live) -> None:
    code = """
def handle(event, context):
    opened = []
    try:
        while True:
            opened.append(open("/dev/null"))
    except OSError as error:
        return f"{len(opened)} {error.strerror}"
"""
    platform.deploy("files", code, annotations={OURS + "max-files": "100", OURS + "concurrency": "4"})
    count, _, reason = platform.invoke("files").text.partition(" ")
    assert 60 < int(count) < 104 and reason == "Too many open files"
    assert platform.invoke("files").status == 200


def test_output_over_the_rate_is_dropped_and_counted(platform: Live) -> None:
    platform.deploy("chatty", "def handle(event, context):\n    print(('x' * 99 + '\\n') * 1000)\n",
                    annotations={OURS + "log-rate": "1Ki"})  # fmt: skip
    assert platform.invoke("chatty").status == 200
    platform.until(lambda: "bytes of output dropped" in platform.function_log("chatty"), "the line")
    log = platform.function_log("chatty")
    assert log.count("x" * 99) < 40 and "(limit 1 KiB/s, 64 lines/s, rescoldo.dev/log-rate)" in log


def running(words: bytes) -> list[int]:
    """Return the processes whose command line contains `words`."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if words in (folder / "cmdline").read_bytes().replace(b"\0", b" "):
                    found.append(int(folder.name))
            except OSError:
                continue
    return found


HANGING = {
    "sync": "import subprocess\ndef handle(event, context):\n    subprocess.run(['sleep', '{0}'])\n",
    "async": "import asyncio\nasync def handle(event, context):\n"
    "    child = await asyncio.create_subprocess_exec('sleep', '{0}', start_new_session=True)\n"
    "    await child.wait()\n",
    "blocked": "import subprocess\nasync def handle(event, context):\n    subprocess.run(['sleep', '{0}'])\n",
}


@pytest.mark.parametrize("kind", HANGING)
def test_a_child_process_of_a_call_past_its_deadline_ends_and_the_next_call_is_served(
    platform: Live, kind: str
) -> None:
    seconds = f"{40_000 + os.getpid()}.{len(kind)}"
    code = HANGING[kind].format(seconds).replace("    subprocess", "    if event.path == '/hang': subprocess")
    code = code.replace("    child =", "    if event.path != '/hang': return\n    child =")
    platform.deploy(f"hang-{kind}", code, envVars={"exec_timeout": "500ms"})
    answer = platform.call("GET", f"/function/hang-{kind}/hang")
    assert answer.status == 504
    platform.until(lambda: not running(f"sleep {seconds}".encode()), "the child to be gone")
    assert platform.invoke(f"hang-{kind}").status == 200


def test_an_invalid_limit_gets_a_400_and_describe_shows_the_limits_in_force(platform: Live) -> None:
    platform.upload("limited:test")
    spec = {"service": "limited", "image": "limited:test", "annotations": {OURS + "max-queue": "²"}}
    refused = platform.system("POST", "/functions", spec)
    assert refused.status == 400
    assert refused.text.strip() == "rescoldo.dev/max-queue: '²' is not allowed; use a whole number from 0 to 100000"
    platform.deploy("limited", image="limited:test", annotations={OURS + "max-queue": "5"})
    shown = json.loads(platform.system("GET", "/function/limited").text)["effectiveLimits"]
    assert (shown["max_queue"], shown["max_files"], shown["max_response"]) == (5, 4096, 64 * 2**20)
