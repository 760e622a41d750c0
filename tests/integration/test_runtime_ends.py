"""Streams, deadlines, clients that leave, and the end of an instance."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from runtime_process import Client, Instance, wait_until

from rescoldo.runtime import watchdog

Run = Callable[..., Instance]
GET = b"GET / HTTP/1.1\r\nHost: f\r\n\r\n"


STREAMS = {
    "generator in a dict": "def handle(event, context): return {'body': parts(), 'headers': {'Content-Type': 't/s'}}",
    "generator function": "def handle(event, context): yield from parts()",
    "iterator": "def handle(event, context): return iter(['a', b'', 'é', b'c'])",
    "async generator function": "async def handle(event, context):\n    for p in parts(): yield p",
    "async generator in a dict": "async def handle(event, context): return {'body': aparts()}",
    "sync handler, async generator": "def handle(event, context): return aparts()",
    "async handler, sync generator": "async def handle(event, context): return parts()",
}
PARTS = """
def parts():
    yield "a"
    yield b""
    yield "é"
    yield bytearray(b"c")
async def aparts():
    for part in parts():
        yield part
"""


@pytest.mark.parametrize("kind", STREAMS)
def test_a_stream_is_sent_in_chunks_and_the_connection_goes_on(run: Run, kind: str) -> None:
    client = run(PARTS + STREAMS[kind]).connect()
    for _ in range(2):
        client.send(GET)
        answer = client.head()
        assert (answer.status, answer.header("Transfer-Encoding")) == (200, "chunked")
        assert answer.header("Content-Length") is None
        assert [client.chunk() for _ in range(4)] == [b"a", "é".encode(), b"c", b""]


def test_a_piece_is_sent_before_the_next_is_made(run: Run, tmp_path: Path) -> None:
    client = run(f"""
        import pathlib, time
        def handle(event, context):
            yield "first"
            while not pathlib.Path({str(tmp_path / "go")!r}).exists(): time.sleep(0.005)
            yield "second"
        """).connect()
    client.send(GET)
    client.head()
    assert client.chunk() == b"first"
    (tmp_path / "go").touch()
    assert [client.chunk(), client.chunk()] == [b"second", b""]


@pytest.mark.parametrize("word", ["", "async "])
def test_an_error_before_the_first_piece_gets_a_500(run: Run, word: str) -> None:
    instance = run(f"{word}def handle(event, context):\n    raise ValueError\n    yield ''")
    assert instance.get().status == 500


@pytest.mark.parametrize("word", ["", "async "])
def test_an_error_in_mid_stream_cuts_the_connection_and_is_logged(run: Run, word: str) -> None:
    instance = run(f"{word}def handle(event, context):\n    yield 'a'\n    raise ValueError('late')")
    client = instance.connect()
    answer = client.ask()
    assert (answer.status, answer.body, answer.whole) == (200, b"a", False)
    wait_until(lambda: "ValueError: late" in instance.log())  # the log line comes after the answer


@pytest.mark.parametrize("word", ["", "async "])
def test_a_stream_of_invalid_pieces_is_cut_and_logged(run: Run, word: str) -> None:
    instance = run(f"{word}def handle(event, context):\n    yield 'a'\n    yield 7")
    assert not instance.get().whole
    wait_until(lambda: "yielded a value of type int" in instance.log())


@pytest.mark.parametrize("word", ["", "async "])
def test_an_empty_stream_is_an_empty_body(run: Run, word: str) -> None:
    instance = run(f"{word}def handle(event, context):\n    if 0: yield")
    answer = instance.get()
    assert (answer.status, answer.header("Content-Length")) == (200, "0")


def test_http_1_0_gets_a_stream_without_chunks(run: Run) -> None:
    client = run("def handle(event, context):\n    yield 'a'\n    yield 'b'").connect()
    client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    answer = client.answer()
    assert (answer.body, answer.header("Connection"), answer.header("Transfer-Encoding")) == (b"ab", "close", None)


def test_head_of_a_stream_has_no_body(run: Run) -> None:
    client = run("def handle(event, context):\n    yield event.method").connect()
    client.ask(method="HEAD")
    assert client.ask().body == b"GET"


@pytest.mark.parametrize("word", ["", "async "])
def test_a_stream_waits_for_a_client_that_does_not_read(run: Run, word: str) -> None:
    instance = run(f"""
        {word}def handle(event, context):
            for number in range(400):
                print(number)
                yield b"x" * 65536
        """)
    client = instance.connect()
    client.send(GET)
    client.head()
    assert lines_when_it_stands_still(instance) < 50
    total = 0
    while chunk := client.chunk():
        total += len(chunk)
    assert (chunk, total) == (b"", 400 * 65536)


@pytest.mark.parametrize("word", ["", "async "])
def test_a_stream_ends_when_its_client_leaves(run: Run, word: str) -> None:
    sleep = "await asyncio.sleep(0.001)" if word else "time.sleep(0.001)"
    instance = run(f"""
        import asyncio, time
        {word}def handle(event, context):
            try:
                while True:
                    yield "tick"
                    {sleep}
            finally:
                print("closed")
        """)
    client = instance.connect()
    client.send(GET)
    client.head()
    client.close()
    wait_until(lambda: "closed" in instance.log())
    instance.signal(signal.SIGTERM)
    assert instance.wait() == 0


@pytest.mark.parametrize("word", ["", "async "])
def test_a_handler_runs_on_when_its_client_leaves(run: Run, tmp_path: Path, word: str) -> None:
    sleep = "await asyncio.sleep(0.005)" if word else "time.sleep(0.005)"
    instance = run(f"""
        import asyncio, pathlib, time
        {word}def handle(event, context):
            print("begun")
            while not pathlib.Path({str(tmp_path / "go")!r}).exists(): {sleep}
            print("done")
        """)
    client = instance.connect()
    client.send(GET)
    wait_until(lambda: "begun" in instance.log())
    client.close()
    (tmp_path / "go").touch()
    wait_until(lambda: "done" in instance.log())
    assert "Traceback" not in instance.log()


def lines_when_it_stands_still(instance: Instance) -> int:
    """Return the number of lines of the log once it has not grown for 0.2 s; the lack of new lines has no event."""
    size, steady = -1, 0
    while steady < 20:
        time.sleep(0.01)
        now = instance.log_file.stat().st_size
        size, steady = now, steady + 1 if now == size else 0
    return instance.log().count("\n")


def flood(client: Client, request: bytes) -> int:
    """Send `request` again and again until the server takes no more; return how often it was sent whole."""
    sent = 0
    client.socket.settimeout(0.1)
    with pytest.raises(TimeoutError):
        while sent < 64 * 2**20:
            sent += client.socket.send(request[sent % len(request) :])
    client.socket.settimeout(10)
    assert sent < 4 * 2**20
    return sent // len(request)


@pytest.mark.slow
def test_a_connection_reads_no_further_while_requests_wait(run: Run, tmp_path: Path) -> None:
    client = run(f"""
        import asyncio, pathlib
        async def handle(event, context):
            while not pathlib.Path({str(tmp_path / "go")!r}).exists(): await asyncio.sleep(0.005)
        """).connect()
    count = flood(client, b"POST / HTTP/1.1\r\nHost: f\r\nContent-Length: 1000\r\n\r\n" + b"a" * 1000)
    (tmp_path / "go").touch()
    assert {client.answer().status for _ in range(count)} == {200}


@pytest.mark.slow
def test_an_instance_reads_no_further_from_a_client_that_does_not_read(run: Run) -> None:
    client = run("def handle(event, context): return ''").connect()
    count = flood(client, b"GET /_/health HTTP/1.1\r\nHost: f\r\n\r\n")
    assert {client.answer().body for _ in range(count)} == {b"OK"}


def test_pipelined_requests_wait_for_a_client_that_does_not_read(run: Run) -> None:
    instance = run("""
        def handle(event, context):
            print(event.path)
            return b"x" * 65536
        """)
    client = instance.connect()
    client.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: f\r\n\r\n" % n for n in range(500)))
    assert lines_when_it_stands_still(instance) < 50
    assert sum(len(client.answer().body) for _ in range(500)) == 500 * 65536


# -- deadlines

SLOW = """
import asyncio
async def handle(event, context):
    try:
        if event.path == "/slow": await asyncio.sleep(60)
    except asyncio.CancelledError:
        print("cancelled")
        raise
    return "ok"
"""
HANGS = """
import time
def handle(event, context):
    if event.path == "/hang": time.sleep(60)
    if event.path == "/while": time.sleep(0.3)
    return "ok"
"""


def test_an_async_call_past_its_deadline_gets_504_and_is_cancelled(run: Run) -> None:
    instance = run(SLOW, exec_timeout=0.05)
    client = instance.connect()
    answer = client.ask("/slow")
    assert (answer.status, answer.text) == (504, "the function did not answer within 0.05 s\n")
    assert answer.header("X-OpenFaaS-Internal") == "of-watchdog"
    assert float(answer.header("X-Duration-Seconds") or 0) >= 0.04  # the loop's clock has a resolution of 1 ms
    wait_until(lambda: "cancelled" in instance.log())
    assert client.ask("/").text == "ok"


@pytest.mark.parametrize(("wanted", "status"), [("0.05s", 504), ("50ms", 504), ("nonsense", 200), ("1h", 200)])
def test_a_call_may_shorten_its_deadline(run: Run, wanted: str, status: int) -> None:
    path = "/slow" if status == 504 else "/"
    assert run(SLOW).get(path, X_Timeout=wanted).status == status


def test_a_call_may_not_lengthen_its_deadline(run: Run) -> None:
    assert run(SLOW, exec_timeout=0.05).get("/slow", X_Timeout="1h").status == 504


@pytest.mark.slow
def test_a_deadline_of_zero_means_none(run: Run) -> None:
    assert run(HANGS, exec_timeout=0).get("/while").text == "ok"


@pytest.mark.slow
def test_a_hung_thread_retires_the_instance_once_the_others_are_answered(run: Run) -> None:
    instance = run(HANGS, exec_timeout=0.5)
    idle, hung, other = (instance.connect() for _ in range(3))
    assert idle.ask().text == "ok"
    hung.send(b"GET /hang HTTP/1.1\r\nHost: f\r\n\r\n")
    time.sleep(0.35)  # so that the other call is in the middle when the first one expires
    other.send(b"GET /while HTTP/1.1\r\nHost: f\r\n\r\n")
    answer = hung.answer()
    assert (answer.status, answer.header("Connection")) == (504, "close")
    answer = other.answer()
    assert (answer.text, answer.header("Connection")) == ("ok", "close")
    assert idle.at_end()
    assert instance.wait(3) == 124


def test_a_retiring_instance_leaves_new_connections_to_the_next(run: Run) -> None:
    instance = run(HANGS, exec_timeout=0.05)
    assert instance.get("/hang").status == 504
    assert instance.wait(3) == 124
    late = instance.connect()  # the node holds the socket
    late.send(GET)
    instance.listener.settimeout(5)
    accepted, _ = instance.listener.accept()
    assert accepted.recv(1000) == GET
    accepted.close()


@pytest.mark.slow
def test_a_call_that_expires_before_a_thread_is_free_does_not_retire_the_instance(run: Run) -> None:
    instance = run(HANGS, concurrency=1)
    busy, waiting = instance.connect(), instance.connect()
    busy.send(b"GET /while HTTP/1.1\r\nHost: f\r\n\r\n")
    assert waiting.ask("/hang", X_Timeout="100ms").status == 504
    assert busy.answer().text == "ok"
    assert instance.get().text == "ok"


@pytest.mark.slow
def test_a_stream_that_expires_before_a_thread_is_free_never_begins(run: Run) -> None:
    instance = run(
        """
        async def handle(event, context):
            return stream(event.path)
        def stream(path):
            print(path, flush=True)
            for _ in range(100 if path == "/slow" else 1):
                yield b"x" * 65536
        """,
        concurrency=1,
    )
    slow, late = instance.connect(), instance.connect()
    slow.send(b"GET /slow HTTP/1.1\r\nHost: f\r\n\r\n")
    slow.head()  # its thread waits until the client reads more
    assert late.ask("/late", X_Timeout="100ms").status == 504
    while slow.chunk():
        pass
    assert instance.get("/next").whole
    assert [line for line in instance.log().splitlines() if line.startswith("/")] == ["/slow", "/next"]


@pytest.mark.slow
def test_an_async_handler_that_ignores_its_cancellation_retires_the_instance(run: Run) -> None:
    instance = run(
        """
        import asyncio
        async def handle(event, context):
            while True:
                try: await asyncio.sleep(60)
                except asyncio.CancelledError: pass
        """,
        exec_timeout=0.05,
    )
    assert instance.get().status == 504
    assert instance.wait(5) == 124


@pytest.mark.parametrize("word", ["", "async "])
def test_a_stream_past_its_deadline_is_cut(run: Run, word: str) -> None:
    sleep = "await asyncio.sleep(0.005)" if word else "time.sleep(0.005)"
    instance = run(
        f"import asyncio, time\n{word}def handle(event, context):\n    while True:\n        yield 'a'\n        {sleep}",
        exec_timeout=0.1,
    )
    answer = instance.get()
    assert (answer.status, answer.whole) == (200, False)


def test_a_stream_whose_client_does_not_read_is_cut_without_retiring(run: Run) -> None:
    instance = run("def handle(event, context):\n    while True: yield b'x' * 65536", exec_timeout=0.15)
    client = instance.connect()
    client.send(GET)
    wait_until(lambda: "deadline" in instance.log())
    assert instance.get("/_/health").status == 200


# -- SIGTERM


def finished(client: Client) -> str:
    answer = client.answer()
    assert answer.header("Connection") == "close"
    return answer.text


def test_sigterm_lets_calls_in_flight_finish(run: Run, tmp_path: Path) -> None:
    instance = run(f"""
        import pathlib, time
        def handle(event, context):
            print("begun")
            while not pathlib.Path({str(tmp_path / "go")!r}).exists(): time.sleep(0.005)
            return "finished"
        """)
    idle, busy = instance.connect(), instance.connect()
    assert idle.ask("/_/health").text == "OK"
    busy.send(GET)
    wait_until(lambda: "begun" in instance.log())
    instance.signal(signal.SIGTERM)
    assert idle.at_end()
    (tmp_path / "go").touch()
    assert finished(busy) == "finished"
    assert instance.wait() == 0


def test_sigterm_lets_a_stream_finish(run: Run, tmp_path: Path) -> None:
    instance = run(f"""
        import asyncio, pathlib
        async def handle(event, context):
            yield "a"
            while not pathlib.Path({str(tmp_path / "go")!r}).exists(): await asyncio.sleep(0.005)
            yield "b"
        """)
    idle, client = instance.connect(), instance.connect()
    idle.ask("/_/health")
    client.send(GET)
    client.head()
    instance.signal(signal.SIGTERM)
    assert idle.at_end()
    (tmp_path / "go").touch()
    assert [client.chunk(), client.chunk(), client.chunk()] == [b"a", b"b", b""]
    assert client.at_end()
    assert instance.wait(1) == 0


def test_a_request_on_its_way_at_sigterm_is_answered(run: Run) -> None:
    instance = run("def handle(event, context): return event.body.decode()")
    client, idle = instance.connect(), instance.connect()
    assert client.ask().status == idle.ask().status == 200
    client.send(b"POST / HTTP/1.1\r\nHost: f\r\nContent-Length: 4\r\n\r\nha")
    instance.signal(signal.SIGTERM)
    assert idle.at_end()
    client.send(b"lf")
    assert finished(client) == "half"
    assert instance.wait() == 0


@pytest.mark.slow
def test_a_client_that_never_finishes_its_request_does_not_keep_the_instance(run: Run) -> None:
    instance = run("def handle(event, context): return ''")
    instance.connect().send(b"POST / HTTP/1.1\r\nHost: f\r\nContent-Length: 4\r\n\r\nha")
    instance.get()
    instance.signal(signal.SIGTERM)
    assert instance.wait(6) == 0


def test_an_idle_instance_ends_at_once_and_leaves_its_socket(run: Run) -> None:
    instance = run("def handle(event, context): return ''")
    began = time.monotonic()
    instance.signal(signal.SIGTERM)
    assert instance.wait() == 0
    assert time.monotonic() - began < 2.5  # well before PATIENCE
    assert Path(instance.path).exists()


# -- answers over launch.max_response


@pytest.mark.parametrize("word", ["", "async "])
def test_an_answer_over_the_limit_gets_a_413_and_the_connection_goes_on(run: Run, word: str) -> None:
    instance = run(f"{word}def handle(event, context): return 'x' * int(event.query['size'])", max_response=1000)
    client = instance.connect()
    for _ in range(2):
        answer = client.ask("/?size=1001")
        assert answer.status == 413 and answer.header("X-OpenFaaS-Internal") == "of-watchdog"
        assert answer.text.startswith("the function's response is larger than the 1000 bytes allowed")
        assert client.ask("/?size=1000").body == b"x" * 1000
    said = "a response of 1001 bytes is larger than the 1000 bytes allowed (rescoldo.dev/max-response)"
    wait_until(lambda: said in instance.log())


@pytest.mark.parametrize("kind", STREAMS)
def test_a_stream_over_the_limit_is_cut_and_logged(run: Run, kind: str) -> None:
    instance = run(PARTS + STREAMS[kind], max_response=3)  # the limit is four bytes
    answer = instance.get()
    assert (answer.status, answer.body, answer.whole) == (200, b"a\xc3\xa9", False)
    wait_until(lambda: "a streamed response was cut at the 3 bytes allowed" in instance.log())
    assert "Traceback" not in instance.log()


@pytest.mark.parametrize("kind", STREAMS)
def test_a_stream_of_exactly_the_limit_is_whole(run: Run, kind: str) -> None:
    assert run(PARTS + STREAMS[kind], max_response=4).get().whole


@pytest.mark.parametrize("word", ["", "async "])
def test_a_first_piece_over_the_limit_gets_a_413_and_the_generator_is_closed(run: Run, word: str) -> None:
    instance = run(
        f"""
        {word}def handle(event, context):
            try:
                yield "x" * 11
            finally:
                print("closed")
        """,
        max_response=10,
    )
    assert instance.get().status == 413
    wait_until(lambda: "closed" in instance.log())


def test_an_endless_stream_stops_at_the_limit(run: Run) -> None:
    instance = run(
        """
        def handle(event, context):
            while True:
                yield b"x" * 65536
        """,
        max_response=2**20,
    )
    answer = instance.get()
    assert (len(answer.body), answer.whole) == (2**20, False)


# -- code that runs past the deadline

HOGS = {
    "a regular expression": "re.match('(a+)+$', 'a' * 60 + 'b')",
    "a C loop": "sum(iter(int, 1))",
}


@pytest.mark.slow
@pytest.mark.parametrize("word", ["", "async "])
@pytest.mark.parametrize("kind", HOGS)
def test_c_code_that_never_releases_the_interpreter_is_ended(
    run: Run, monkeypatch: pytest.MonkeyPatch, kind: str, word: str
) -> None:
    monkeypatch.setattr(watchdog, "LAST_MARGIN", 0.1)  # the instance is a fork of this process
    instance = run(f"import re\n{word}def handle(event, context):\n    {HOGS[kind]}", exec_timeout=0.05)
    client = instance.connect()
    client.send(GET)
    code = instance.wait(40)  # the alarm counts processor time, and a busy machine grants little
    if code == 124:  # in the main thread the expression checks for signals
        assert (kind, word) == ("a regular expression", "async ") and client.answer().status == 504
    else:
        assert code == signal.SIGVTALRM
        assert "handler.py" in instance.log() and "in handle" in instance.log()


@pytest.mark.slow
def test_an_instance_that_works_hard_but_in_time_is_left_alone(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "LAST_MARGIN", -9.1)
    instance = run(
        """
        import time
        def handle(event, context):
            end = time.thread_time() + 0.05
            while time.thread_time() < end: pass
            return "ok"
        """,
        exec_timeout=10.0,
    )
    client = instance.connect()
    assert {client.ask().text for _ in range(20)} == {"ok"}  # together more than the alarm's 0.9 s


def child_of(instance: Instance) -> int:
    """Return the pid that the handler printed."""
    wait_until(lambda: "child " in instance.log())
    return int(instance.log().partition("child ")[2].split()[0])


def has_ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


CHILDREN = {
    "waited for by an async handler": """
        import asyncio
        async def handle(event, context):
            child = await asyncio.create_subprocess_exec("sleep", "60")
            print("child", child.pid)
            await child.wait()
        """,
    "in a session of its own": """
        import asyncio
        async def handle(event, context):
            child = await asyncio.create_subprocess_exec("sleep", "60", start_new_session=True)
            print("child", child.pid)
            await child.wait()
        """,
    "waited for by a sync handler": """
        import subprocess
        def handle(event, context):
            child = subprocess.Popen(["sleep", "60"])
            print("child", child.pid)
            child.wait()
        """,
    "waited for in a blocked loop": """
        import subprocess
        async def handle(event, context):
            child = subprocess.Popen(["sleep", "60"])
            print("child", child.pid)
            child.wait()
        """,
    "of an async generator": """
        import asyncio
        async def handle(event, context):
            child = await asyncio.create_subprocess_exec("sleep", "60")
            print("child", child.pid)
            yield "a"
            await child.wait()
        """,
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", CHILDREN)
def test_a_child_process_of_a_call_past_its_deadline_ends_with_the_instance(run: Run, kind: str) -> None:
    instance = run(CHILDREN[kind], exec_timeout=1.0)  # a busy machine needs a while to start the child
    answer = instance.get()
    assert answer.status == 504 or not answer.whole
    assert instance.wait(5) == 124
    child = child_of(instance)
    wait_until(lambda: has_ended(child))


@pytest.mark.slow
def test_a_process_from_before_the_call_does_not_end_the_instance(run: Run) -> None:
    instance = run(
        """
        import asyncio, subprocess
        child = subprocess.Popen(["sleep", "60"])
        print("child", child.pid)
        async def handle(event, context):
            if event.path == "/slow": await asyncio.sleep(60)
            return str(child.poll())
        """,
        exec_timeout=0.1,
    )
    time.sleep(0.03)  # the kernel records a process's start in steps of 10 ms
    assert instance.get("/slow").status == 504
    time.sleep(1.3)  # the instance looks for leftovers 1 s after the deadline
    assert instance.get().text == "None"
    instance.signal(signal.SIGTERM)
    instance.wait()
    child = child_of(instance)
    wait_until(lambda: has_ended(child))


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [60, 0.3])
def test_a_thread_that_a_cancelled_handler_leaves_ends_the_instance(run: Run, seconds: float) -> None:
    instance = run(
        f"""
        import asyncio, time
        async def handle(event, context):
            if event.path == "/slow": await asyncio.to_thread(time.sleep, {seconds})
            return "ok"
        """,
        exec_timeout=0.1,
    )
    client = instance.connect()
    assert client.ask("/slow").status == 504
    if seconds > 1:
        assert instance.wait(5) == 124
        assert "left a busy thread" in instance.log()
    else:
        time.sleep(1.3)
        assert client.ask().text == "ok"


def test_async_handlers_have_as_many_threads_as_the_concurrency(run: Run) -> None:
    instance = run(
        """
        import asyncio, threading
        all_there = threading.Barrier(12)
        async def handle(event, context):
            await asyncio.to_thread(all_there.wait)
            return "ok"
        """,
        concurrency=12,
    )
    clients = [instance.connect() for _ in range(12)]
    for client in clients:
        client.send(GET)
    assert {client.answer().text for client in clients} == {"ok"}


# -- concurrency

COUNTED = """
import asyncio
now = most = 0
async def handle(event, context):
    global now, most
    if event.path == "/most": return str(most)
    now += 1
    most = max(most, now)
    print("began")
    try: await asyncio.sleep(float(event.query.get("for", "0.1")))
    finally: now -= 1
    return "ok"
"""


@pytest.mark.slow
@pytest.mark.parametrize("limit", [1, 3])
def test_an_async_handler_whose_client_has_left_counts_until_it_ends(run: Run, limit: int) -> None:
    instance = run(COUNTED, concurrency=limit)
    for number in range(3 * limit):  # like an edge whose clients leave
        client = instance.connect()
        client.send(GET)
        wait_until(lambda number=number: instance.log().count("began") > number)
        client.close()
    assert instance.get("/most").text == str(limit)


@pytest.mark.slow
def test_a_call_that_expires_before_its_turn_gets_504_and_takes_no_turn(run: Run) -> None:
    instance = run(COUNTED, concurrency=1)
    first, second, third = (instance.connect() for _ in range(3))
    first.send(b"GET /?for=0.4 HTTP/1.1\r\nHost: f\r\n\r\n")
    wait_until(lambda: "began" in instance.log())
    assert second.ask(X_Timeout="50ms").status == 504
    assert third.ask().text == "ok" and first.answer().text == "ok"
    assert instance.log().count("began") == 2


@pytest.mark.slow
def test_calls_that_fail_expire_or_stream_return_their_turn(run: Run) -> None:
    instance = run(
        """
        import asyncio
        async def parts():
            yield "a"
            await asyncio.sleep(60)
        async def handle(event, context):
            match event.path:
                case "/raise": raise ValueError
                case "/slow": await asyncio.sleep(60)
                case "/stream": return parts()
            return "ok"
        """,
        concurrency=1,
    )
    for path in ("/raise", "/slow", "/stream") * 2:
        instance.get(path, X_Timeout="50ms")
        assert instance.get().text == "ok"


@pytest.mark.slow
def test_awaitables_of_a_plain_function_wait_for_their_turn_too(run: Run) -> None:
    instance = run(COUNTED.replace("async def handle", "async def work") + "\ndef handle(e, c): return work(e, c)",
                   concurrency=1)  # fmt: skip
    clients = [instance.connect() for _ in range(4)]
    for client in clients:
        client.send(GET)
    assert {client.answer().text for client in clients} == {"ok"}
    assert instance.get("/most").text == "1"
