"""Each call of a classic handler has its own output, environment and exit, like a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from runtime_process import Instance, start, wait_until, write_bundle

Run = Callable[..., Instance]
TEXT = "text/plain; charset=utf-8"


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Start an instance of the given handler.py."""
    started: list[Instance] = []

    def start_it(code: str, **launch: Any) -> Instance:
        write_bundle(tmp_path, code, "classic")
        started.append(start(tmp_path, **launch))
        return started[-1]

    yield start_it
    for instance in started:
        instance.close()


@pytest.mark.parametrize("kind", ["", "async "])
@pytest.mark.parametrize(
    ("body", "status", "answer", "log"),
    [
        ("print('a'); print('é', end='')", 200, "a\né".encode(), ""),
        ("sys.stdout.write('a'); sys.stdout.buffer.write(b'b'); sys.stdout.flush()", 200, b"ab", ""),
        ("sys.stdout.buffer.write(b'\\xff')", 200, b"\xff", ""),
        ("kept.write('kept')", 200, b"kept", ""),
        ("print('said'); return 'returned'", 200, b"returned", "said\n"),
        ("print('said'); return ''", 200, b"", "said\n"),
        ("print('said'); sys.exit()", 200, b"said\n", ""),
        ("print('said'); sys.exit(0)", 200, b"said\n", ""),
        ("print('said'); sys.exit(3)", 500, b"exit status 3\n", "said\n"),
        ("sys.exit('the reason')", 500, b"the reason\n", "the reason"),
        ("print('said'); raise ValueError", 500, b"the function raised ValueError; see its log\n", "said\n"),
        ("print('err', file=sys.stderr)", 200, b"", "err\n"),
        ("t = threading.Thread(target=print, args=('thread',)); t.start(); t.join()", 200, b"", "thread"),
    ],
)
def test_the_output_of_a_call_that_returns_nothing_is_its_answer(
    run: Run, body: str, status: int, answer: bytes, log: str, kind: str
) -> None:
    instance = run(f"import sys, threading\nkept = sys.stdout\n{kind}def handle(req):\n    {body}\n")
    for _ in range(2):  # the second call gets nothing of the first
        found = instance.get()
        assert (found.status, found.body) == (status, answer)
    wait_until(lambda: log in instance.log())
    if not log:
        assert instance.log() == ""


@pytest.mark.parametrize("kind", ["", "async "])
def test_concurrent_calls_have_their_own_output_and_environment(run: Run, tmp_path: Path, kind: str) -> None:
    wait = "await asyncio.sleep(0.005)" if kind else "time.sleep(0.005)"
    instance = run(f"""
        import asyncio, os, pathlib, sys, time
        {kind}def handle(req):
            print(os.environ["Http_Path"], end=" ")
            print("began", req, file=sys.stderr, flush=True)
            while not pathlib.Path({str(tmp_path / "go")!r}).exists(): {wait}
            print(os.getenv("Http_X_Own"), os.environ.get("Http_Query"), dict(os.environ)["Http_Method"], end="")
        """)
    clients = [instance.connect() for _ in range(4)]
    for number, client in enumerate(clients):
        client.send(f"GET /p{number}?q={number} HTTP/1.1\r\nHost: f\r\nX-Own: {number}\r\n\r\n".encode())
    wait_until(lambda: instance.log().count("began") == 4)
    (tmp_path / "go").touch()
    assert [client.answer().text for client in clients] == [f"/p{n} {n} q={n} GET" for n in range(4)]


def test_a_call_has_the_environment_of_the_classic_watchdog_and_of_cgi(run: Run) -> None:
    instance = run("""
        import json, os
        before = set(os.environ)
        def handle(req):
            os.environ["KEPT"] = "1"
            assert "Http_Path" in os.environ and len(os.environ) == len(list(os.environ))
            found = {**os.environ} | (os.environ | {}) | os.environ.copy()
            return json.dumps({name: value for name, value in found.items() if name not in before})
        """)
    found = instance.get("/a%20b?x=1&y", method="POST", body=b"hello", Content_Type="a/b", Proxy="evil:1").json()
    assert found == {
        "KEPT": "1", "Http_Host": "f", "Http_Content_Type": "a/b", "Http_Content_Length": "5",
        "Http_ContentLength": "5", "Http_Method": "POST", "Http_Path": "/a%20b", "Http_Query": "x=1&y",
        "REQUEST_METHOD": "POST", "PATH_INFO": "/a b", "QUERY_STRING": "x=1&y",
        "CONTENT_TYPE": "a/b", "CONTENT_LENGTH": "5",
    }  # fmt: skip
