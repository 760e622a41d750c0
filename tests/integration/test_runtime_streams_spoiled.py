"""Whatever a function does to its streams, the runtime answers, keeps its deadlines and logs to the function's log."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from runtime_process import Instance, wait_until

Run = Callable[..., Instance]

SPOILED = {
    "untouched": "",
    "None": "sys.stderr = sys.stdout = sys.__stderr__ = sys.__stdout__ = None",
    "closed": "sys.stderr.close(); sys.stdout.close()",
    "descriptors closed": "os.close(1); os.close(2)",
    "descriptors elsewhere": "n = os.open('/dev/full', os.O_WRONLY); os.dup2(n, 1); os.dup2(n, 2)",
    "an object that raises": """
class Stream:
    def write(self, text): raise SystemExit(3)
    def flush(self): raise SystemExit(3)
sys.stderr = sys.stdout = Stream()
""",
    "an object that is nothing": "sys.stderr = sys.stdout = 5",
    "an object that blocks": """
class Stream:
    def write(self, text): time.sleep(60)
    flush = write
sys.stderr = Stream()
""",
    "hooks that raise": """
def hook(*arguments): raise SystemExit(3)
sys.excepthook = sys.unraisablehook = threading.excepthook = warnings.showwarning = hook
logging.lastResort = None
traceback.print_exc = traceback.print_exception = hook
""",
}
HANDLER = """
import asyncio, logging, os, sys, threading, time, traceback, warnings
{when_imported}
{kind}def handle(event, context):
    if event.path == "/spoil":
        {when_called}
        return "spoiled"
    if event.path == "/slow":
        {sleep}
    if event.path == "/large": return "x" * 3000
    if event.path == "/nonsense": return object()
    if event.path == "/raise": raise ValueError("the reason")
    return "fine"
"""
SLEEPS = {"": "time.sleep(60)", "async ": "await asyncio.sleep(60)"}


@pytest.mark.parametrize("kind", SLEEPS)
@pytest.mark.parametrize("when", ["imported", "called"])
@pytest.mark.parametrize("spoiled", SPOILED)
def test_spoiled_streams_change_no_answer_deadline_or_reason(run: Run, spoiled: str, when: str, kind: str) -> None:
    code = SPOILED[spoiled] or "pass"
    inside = f"exec({code!r}, globals())"
    places = {"when_imported": code, "when_called": "pass"} if when == "imported" else {
        "when_imported": "", "when_called": inside}  # fmt: skip
    instance = run(HANDLER.format(kind=kind, sleep=SLEEPS[kind], **places), exec_timeout=5.0, max_response=2000)
    assert instance.report["ready"]
    assert instance.get("/spoil").text == "spoiled"
    answer = instance.get("/raise")
    assert (answer.status, answer.text) == (500, "the function raised ValueError; see its log\n")
    assert instance.get("/nonsense").status == 500
    assert instance.get("/large").status == 413
    assert instance.get("/").text == "fine"
    assert instance.get("/slow", X_Timeout="100ms").status == 504
    wait_until(lambda: "a call was ended at its deadline of 0.1 s" in instance.log())
    log = instance.log()
    assert "ValueError: the reason" in log
    assert "the function returned a value of type object" in log
    assert "a response of 3000 bytes is larger than" in log
    if not kind:
        assert instance.wait(5) == 124


@pytest.mark.parametrize("spoiled", SPOILED)
def test_a_failed_import_is_reported_whatever_it_did_to_its_streams(run: Run, spoiled: str) -> None:
    instance = run("import logging, os, sys, threading, time, traceback, warnings\n"
                   f"exec({SPOILED[spoiled]!r}, globals())\nraise ValueError('the reason')\n")  # fmt: skip
    assert instance.report == {"error": "handler.py line 3: ValueError: the reason"}
    assert "ValueError: the reason" in instance.log()
    assert instance.wait(5) == 1


def test_a_stream_redirected_by_one_call_gets_no_text_about_another(run: Run, tmp_path: Path) -> None:
    instance = run(f"""
        import asyncio, contextlib, io, pathlib, threading, time
        def handle(event, context):
            if event.path == "/raise": raise ValueError("secret")
            if event.path == "/thread":
                thread = threading.Thread(target=lambda: 1 / 0)
                thread.start()
                return thread.join()
            with contextlib.redirect_stderr(io.StringIO()) as text:
                print("redirected", flush=True)
                while not pathlib.Path({str(tmp_path / "go")!r}).exists(): time.sleep(0.005)
            return text.getvalue() or "nothing"
        """)
    redirected = instance.connect()
    redirected.send(b"GET / HTTP/1.1\r\nHost: f\r\n\r\n")
    wait_until(lambda: "redirected" in instance.log())
    assert instance.get("/raise").status == 500
    assert instance.get("/thread").status == 200
    wait_until(lambda: "secret" in instance.log() and "ZeroDivisionError" in instance.log())
    (tmp_path / "go").touch()
    assert redirected.answer().text == "nothing"


@pytest.mark.parametrize(("configured", "where"), [("pass", "log"), ("logging.basicConfig(stream=mine)", "mine")])
def test_errors_of_background_tasks_go_to_the_functions_logging_or_its_log(
    run: Run, configured: str, where: str
) -> None:
    instance = run(f"""
        import asyncio, contextlib, gc, io, logging, sys
        logging.getLogger().handlers.clear()  # pytest's, for this is a fork of it
        mine = io.StringIO()
        {configured}
        async def fail(): raise ValueError("in the background")
        async def handle(event, context):
            with contextlib.redirect_stderr(io.StringIO()) as text:
                task = asyncio.create_task(fail())
                await asyncio.sleep(0.02)
                del task
                gc.collect()
                await asyncio.sleep(0)
            return {{"body": {{"redirected": text.getvalue(), "mine": mine.getvalue()}}}}
        """)
    said = instance.get().json()
    said["log"] = instance.log()
    assert [name for name in said if "in the background" in said[name]] == [where]


@pytest.mark.parametrize("which", ["1", "2", "0, 1, 2"])
def test_a_connection_never_gets_the_number_of_a_closed_stream(run: Run, which: str) -> None:
    instance = run(f"""
        import os, subprocess, sys
        def handle(event, context):
            if event.path == "/close":
                for number in ({which},): os.close(number)
            for number in (1, 2):
                try: os.write(number, b"printed")
                except OSError: pass
            return "answer"
        """)
    first = instance.connect()
    assert first.ask("/close").text == "answer"
    for _ in range(5):
        client = instance.connect()
        assert client.ask("/").text == "answer"  # with nothing before or after it
        assert client.ask("/").text == "answer"
    wait_until(lambda: {"0", "1", "2"} <= {path.name for path in Path(f"/proc/{instance.pid}/fd").iterdir()})
    assert first.ask("/").text == "answer"


HOSTILE = {
    "raises": ("class Odd(Exception):\n    def __str__(self): raise SystemExit(3)", "Odd"),
    "recurses": ("class Odd(Exception):\n    def __str__(self): return str(self)", "Odd"),
    "lies": (
        "class Meta(type):\n    __name__ = property(lambda c: 1/0)\nclass Odd(Exception, metaclass=Meta): pass",
        "Odd",
    ),
    "long": ("class Odd(Exception):\n    def __str__(self): return 'x' * 10_000_000", "Odd"),
    "surrogate": ("class Odd(Exception):\n    def __str__(self): return '\\udcff'", "Odd"),
}


@pytest.mark.parametrize("kind", SLEEPS)
@pytest.mark.parametrize("which", HOSTILE)
def test_an_exception_whose_text_misbehaves_gets_500(run: Run, which: str, kind: str) -> None:
    code, name = HOSTILE[which]
    instance = run(f"{code}\n{kind}def handle(event, context):\n    if event.path == '/raise': raise Odd()\n")
    for _ in range(2):
        answer = instance.get("/raise")
        assert (answer.status, answer.text) == (500, f"the function raised {name}; see its log\n")
    assert instance.get("/").status == 200
    wait_until(lambda: len(instance.log()) > 20)
    assert len(instance.log()) < 300_000


@pytest.mark.slow
@pytest.mark.parametrize("kind", SLEEPS)
def test_an_exception_whose_text_never_comes_ends_at_the_deadline(run: Run, kind: str) -> None:
    instance = run(
        "import time\nclass Odd(Exception):\n    def __str__(self): time.sleep(60)\n"
        f"{kind}def handle(event, context): raise Odd()\n",
        exec_timeout=0.3,
    )
    begin = time.monotonic()
    assert instance.get().status == 504
    assert instance.wait(5) == 124
    assert time.monotonic() - begin < 5


def test_a_stream_whose_generator_cannot_be_closed_ends(run: Run) -> None:
    instance = run("""
        def handle(event, context):
            try: yield "a"
            finally: raise SystemExit(3)
        """, concurrency=1)  # fmt: skip
    for _ in range(3):
        client = instance.connect()
        client.send(b"HEAD / HTTP/1.1\r\nHost: f\r\n\r\n")
        assert client.head().status == 200
