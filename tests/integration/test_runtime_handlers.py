"""Handlers of both styles, good and bad, in a real instance process."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from runtime_process import Instance, start, wait_until, write_bundle

Run = Callable[..., Instance]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Start an instance of the given handler.py."""
    started: list[Instance] = []

    def start_it(
        code: str | None, style: str = "http", modules: dict[str, str] | None = None, **launch: Any
    ) -> Instance:
        write_bundle(tmp_path, code, style, **(modules or {}))
        started.append(start(tmp_path, **launch))
        return started[-1]

    yield start_it
    for instance in started:
        instance.close()


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """One instance; the query says what it returns or raises."""
    root = tmp_path_factory.mktemp("many")
    write_bundle(
        root,
        """
        import sys, json
        RESULTS = {
            "none": None, "str": "<b>é</b>", "bytes": b"\\x00\\xff", "dict": {"a": 1}, "list": [1, "é"],
            "tuple": ("a", 202), "one": ("a",), "int": 7, "set": {1},
            "full": {"statusCode": 201, "body": {"x": [1]}, "headers": {"X-A": "1", "Set-Cookie": ["a=1", "b=2"]}},
            "typed": {"body": "a,b", "headers": {"content-type": "text/csv"}},
            "hop": {"body": "x", "headers": {"Connection": "close", "Content-Length": "99", "Upgrade": "h2c",
                    "Transfer-Encoding": "chunked", "Keep-Alive": "1", "TE": "x", "X-Kept": "1"}},
            "split": {"body": "x", "headers": {"X-A": "1\\r\\nX-Evil: 1"}},
            "name": {"body": "x", "headers": {"X A": "1"}},
            "100": {"statusCode": 100}, "999": {"statusCode": 999}, "599": {"statusCode": 599, "body": "x"},
            "204": {"statusCode": 204, "body": "dropped"}, "302": {"statusCode": 302, "headers": {"Location": "/x"}},
        }
        def answer(key):
            if key == "raise": raise ValueError("secret detail")
            if key == "exit": sys.exit(3)
            if key == "recurse": return answer(key)
            return RESULTS[key]
        def handle(event, context):
            return answer(event.query["k"])
        """,
    )
    running = start(root)
    yield running
    running.close()


@pytest.mark.parametrize(
    ("key", "status", "kind", "body"),
    [
        ("none", 200, None, b""),
        ("str", 200, "text/html; charset=utf-8", "<b>é</b>".encode()),
        ("bytes", 200, "application/octet-stream", b"\x00\xff"),
        ("dict", 200, "application/json", b'{"a":1}\n'),
        ("list", 200, "application/json", b'[1,"\\u00e9"]\n'),
        ("tuple", 202, "text/html; charset=utf-8", b"a"),
        ("full", 201, "application/json", b'{"x":[1]}\n'),
        ("typed", 200, "text/csv", b"a,b"),
        ("599", 599, "text/html; charset=utf-8", b"x"),
        ("302", 302, None, b""),
    ],
)
def test_a_handlers_return_value_becomes_the_answer(
    many: Instance, key: str, status: int, kind: str | None, body: bytes
) -> None:
    answer = many.get(f"/?k={key}")
    assert (answer.status, answer.header("Content-Type"), answer.body) == (status, kind, body)
    assert answer.header("X-OpenFaaS-Internal") is None


def test_each_value_of_a_list_becomes_a_header(many: Instance) -> None:
    values = [value for name, value in many.get("/?k=full").headers if name == "Set-Cookie"]
    assert values == ["a=1", "b=2"]


def test_hop_by_hop_headers_of_a_handler_are_dropped(many: Instance) -> None:
    client = many.connect()
    answer = client.ask("/?k=hop")
    names = {name.lower() for name, _ in answer.headers}
    assert names == {"content-type", "content-length", "date", "x-duration-seconds", "x-kept"}
    assert answer.body == b"x"
    assert client.ask("/?k=str").status == 200


def test_204_has_neither_length_nor_body(many: Instance) -> None:
    client = many.connect()
    answer = client.ask("/?k=204")
    assert (answer.status, answer.header("Content-Length")) == (204, None)
    assert client.ask("/?k=bytes").body == b"\x00\xff"


@pytest.mark.parametrize("key", ["one", "int", "set", "split", "name", "100", "999"])
def test_an_invalid_return_value_gets_500_and_its_reason_is_logged(many: Instance, key: str) -> None:
    before = len(many.log())
    answer = many.get(f"/?k={key}")
    assert (answer.status, answer.text) == (500, "the function returned an invalid response; see its log\n")
    assert answer.header("X-OpenFaaS-Internal") == "of-watchdog"
    wait_until(lambda: "rescoldo: the function returned" in many.log()[before:])  # the log line comes after the answer


def test_an_exception_gets_500_and_its_traceback_goes_to_the_log_alone(many: Instance) -> None:
    answer = many.get("/?k=raise")
    assert (answer.status, answer.text) == (500, "the function raised ValueError; see its log\n")
    assert answer.header("X-OpenFaaS-Internal") == "of-watchdog"
    wait_until(lambda: "ValueError: secret detail" in many.log())
    assert 'function/handler.py", line' in many.log()
    assert "rescoldo/runtime" not in many.log()


@pytest.mark.parametrize(("key", "kind"), [("exit", "SystemExit"), ("recurse", "RecursionError"), ("?", "KeyError")])
def test_the_instance_survives_whatever_a_handler_raises(many: Instance, key: str, kind: str) -> None:
    assert many.get(f"/?k={key}").text == f"the function raised {kind}; see its log\n"
    assert many.get("/?k=str").status == 200


def test_an_async_handler_runs_on_the_loop(run: Run) -> None:
    instance = run("""
        import asyncio, threading
        async def handle(event, context):
            async with asyncio.timeout(5):
                await asyncio.sleep(0)
            return threading.current_thread().name + " " + context.hostname
        """)
    assert instance.get().text == f"MainThread {os.environ.get('HOSTNAME') or socket.gethostname()}"


def test_async_calls_overlap(run: Run) -> None:
    instance = run("""
        import asyncio
        met = asyncio.Barrier(3)
        async def handle(event, context):
            await met.wait()
            return "met"
        """)
    clients = [instance.connect() for _ in range(3)]
    for client in clients:
        client.send(b"GET / HTTP/1.1\r\nHost: f\r\n\r\n")
    assert [client.answer().text for client in clients] == ["met"] * 3


def test_sync_calls_overlap_up_to_the_concurrency(run: Run) -> None:
    instance = run(
        """
        import threading
        met = threading.Barrier(3)
        names = set()
        def handle(event, context):
            names.add(threading.current_thread().name)
            if event.path == "/meet":
                met.wait(5)
            return str(len(names))
        """,
        concurrency=3,
    )
    clients = [instance.connect() for _ in range(3)]
    for client in clients:
        client.send(b"GET /meet HTTP/1.1\r\nHost: f\r\n\r\n")
    assert [client.answer().status for client in clients] == [200] * 3
    for client in clients * 5:
        client.send(b"GET / HTTP/1.1\r\nHost: f\r\n\r\n")
    assert {client.answer().text for client in clients * 5} == {"3"}


def test_one_thread_starts_ahead_and_others_only_when_needed(run: Run) -> None:
    instance = run("def handle(event, context): return ''")
    threads = Path(f"/proc/{instance.pid}/task")
    client = instance.connect()
    for _ in range(5):
        client.ask()
        assert len(list(threads.iterdir())) == 2


def test_an_async_handler_needs_no_thread(run: Run) -> None:
    instance = run("async def handle(event, context): return ''")
    instance.connect().ask()
    assert len(list(Path(f"/proc/{instance.pid}/task").iterdir())) == 1


def test_an_async_exception_and_exit_get_500(run: Run) -> None:
    instance = run("""
        import sys, asyncio
        async def handle(event, context):
            if event.path == "/exit": sys.exit(1)
            if event.path == "/cancel": raise asyncio.CancelledError
            raise KeyError("k")
        """)
    for path, kind in (("/", "KeyError"), ("/exit", "SystemExit"), ("/cancel", "CancelledError"), ("/", "KeyError")):
        assert instance.get(path).text == f"the function raised {kind}; see its log\n"


def test_a_plain_function_that_returns_an_awaitable_is_awaited(run: Run) -> None:
    instance = run("""
        async def later(): return "later"
        def handle(event, context): return later()
        """)
    assert instance.get().text == "later"


def test_a_callable_object_is_a_handler(run: Run) -> None:
    instance = run("""
        class Handler:
            async def __call__(self, event, context): return "object"
        handle = Handler()
        """)
    assert instance.get().text == "object"


@pytest.mark.parametrize(
    ("result", "kind", "body"),
    [
        ("req.upper()", "text/plain; charset=utf-8", "HÉ�".encode()),
        ("None", None, b""),
        ("b'raw'", "application/octet-stream", b"raw"),
        ("{'statusCode': 201}", "application/json", b'{"statusCode":201}\n'),
        ("42", "text/plain; charset=utf-8", b"42"),
    ],
)
def test_a_classic_handler_gets_text(run: Run, result: str, kind: str | None, body: bytes) -> None:
    instance = run(f"def handle(req): return {result}", style="classic")
    answer = instance.get(method="POST", body="hé".encode() + b"\xff")
    assert (answer.status, answer.header("Content-Type"), answer.body) == (200, kind, body)


def test_own_modules_and_dependencies_are_importable(run: Run, tmp_path: Path) -> None:
    (tmp_path / "deps").mkdir()
    (tmp_path / "deps" / "thing.py").write_text("NAME = 'dep'")
    instance = run(
        """
        import thing
        from function import mine
        from . import mine as again
        def handle(event, context): return thing.NAME + mine.NAME + str(again is mine)
        """,
        modules={"mine": "NAME = 'own'"},
    )
    assert instance.get().text == "depownTrue"


@pytest.mark.parametrize("with_init", [False, True])
def test_own_modules_have_one_copy_under_all_their_names(run: Run, with_init: bool) -> None:
    instance = run(
        """
        import sys
        sys.path[:] = [path for path in sys.path if not path.endswith("bench")]  # this is a fork of pytest
        sys.modules.pop("handler", None)
        import handler, utils, function.utils, lib.part, function.lib.part
        from . import utils as relative
        from utils import VALUE, count
        from lib.part import WHERE
        import json, importlib.util
        def handle(event, context):
            count()
            same = utils is function.utils is relative and lib.part is function.lib.part and lib is function.lib
            return {"body": {"same": same, "count": relative.COUNT, "handler": handler is sys.modules[__name__],
                             "name": utils.__name__, "spec": importlib.util.find_spec("function.utils").name,
                             "part": WHERE, "json": hasattr(json, "dumps")}}
        """,
        modules={
            "utils": "COUNT = 0\nVALUE = 1\ndef count():\n    global COUNT\n    COUNT += 1\n",
            "json": "ours = True",
            "lib/__init__": "",
            "lib/part": "from .. import utils\nWHERE = utils.__name__",
        }
        | ({"__init__": ""} if with_init else {}),
    )
    for number in (1, 2):
        assert instance.get().json() == {
            "same": True, "count": number, "handler": True, "name": "function.utils", "spec": "function.utils",
            "part": "function.utils", "json": True,
        }  # fmt: skip


@pytest.mark.parametrize("with_init", [False, True])
def test_the_standard_library_finds_files_beside_the_handler(run: Run, tmp_path: Path, with_init: bool) -> None:
    (tmp_path / "function").mkdir()
    (tmp_path / "function" / "data.txt").write_text("data")
    instance = run(
        """
        import function, importlib.resources, importlib.util, inspect, pkgutil
        def handle(event, context):
            spec = importlib.util.find_spec("function")
            return {"body": [
                importlib.resources.files("function").joinpath("data.txt").read_text(),
                importlib.resources.files(__package__).joinpath("data.txt").read_text(),
                pkgutil.get_data("function", "data.txt").decode(),
                sorted(module.name for module in pkgutil.iter_modules(function.__path__)),
                list(spec.submodule_search_locations) == list(function.__path__),
                importlib.util.find_spec("function.nothing") is None,
                inspect.getmodule(handle).__name__,
            ]}
        """,
        modules={"mine": ""} | ({"__init__": ""} if with_init else {}),
    )
    assert instance.get().json() == ["data", "data", "data", ["handler", "mine"], True, True, "function.handler"]


def test_a_requirement_takes_precedence_over_a_file_of_the_function(run: Run, tmp_path: Path) -> None:
    (tmp_path / "deps").mkdir()
    (tmp_path / "deps" / "thing.py").write_text("NAME = 'dep'")
    code = "import thing\nfrom . import thing as mine\ndef handle(event, context): return thing.NAME + mine.NAME"
    assert run(code, modules={"thing": "NAME = 'own'"}).get().text == "depown"


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("import os\n\ndef handle(:\n", "handler.py line 3: SyntaxError: invalid syntax"),
        ("x = 1\nraise ValueError('no\\nway')", "handler.py line 2: ValueError: no way"),
        ("import nowhere_at_all", "handler.py line 1: ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("import sys\nsys.exit(4)", "handler.py line 2: sys.exit(4) was called while it was imported"),
        ("from function import mine", "mine.py line 2: ZeroDivisionError: division by zero"),
        ("import json\njson.loads('x')", "handler.py line 2: json.decoder.JSONDecodeError: "),
        ("x = 1", "handler.py defines no function named handle"),
        ("handle = 3", "handler.py: handle is int, not a function"),
        ("def handle(req): pass", "handler.py: handle(req) cannot be called as handle(event, context)"),
        (None, "handler.py is missing in the function's folder"),
    ],
)
def test_a_handler_that_cannot_be_imported_is_reported_in_one_line(run: Run, code: str | None, error: str) -> None:
    instance = run(code, modules={"mine": "\n1 / 0\n"})
    assert instance.report["error"].startswith(error)
    assert "\n" not in instance.report["error"]
    assert instance.wait() == 1
    assert instance.report["error"] in instance.log()


def test_the_log_has_the_whole_traceback_of_a_failed_import(run: Run) -> None:
    instance = run("import json\njson.loads('x')")
    assert instance.wait() == 1
    assert "Traceback (most recent call last)" in instance.log()
    assert "json/decoder.py" in instance.log()


def test_a_damaged_manifest_is_reported(tmp_path: Path) -> None:
    write_bundle(tmp_path, "def handle(e, c): pass")
    (tmp_path / "manifest.json").write_text("{")
    instance = start(tmp_path)
    try:
        assert instance.report["error"].startswith("manifest.json of the bundle cannot be read")
        assert instance.wait() == 1
    finally:
        instance.close()


def test_prints_are_in_the_log_before_the_answer(run: Run) -> None:
    instance = run("""
        import sys
        print("imported")
        def handle(event, context):
            print("said é \\ud800")
            sys.stderr.write("err\\n")
        """)
    assert instance.log() == "imported\n"
    instance.get()
    assert instance.log() == "imported\nsaid é \\ud800\nerr\n"


def test_children_of_the_handlers_module_do_not_hold_the_status_pipe(run: Run) -> None:
    # `run` reads the pipe to its end, so it would never return while a child held the pipe
    instance = run("""
        import os, signal
        child = os.fork()
        if child == 0:
            signal.alarm(3)
            signal.pause()
            os._exit(0)
        def handle(event, context):
            os.kill(child, 9)
            return str(os.waitpid(child, 0)[1])
        """)
    assert instance.report["ready"] is True
    assert instance.get().text == "9"


def test_a_handler_that_ends_the_process_ends_it(run: Run) -> None:
    instance = run("import os\ndef handle(event, context): os._exit(7)")
    client = instance.connect()
    client.send(b"GET / HTTP/1.1\r\nHost: f\r\n\r\n")
    assert client.at_end()
    assert instance.wait() == 7


def test_a_background_task_that_exits_ends_the_instance(run: Run) -> None:
    instance = run("""
        import asyncio, sys
        async def leave(): sys.exit(0)
        async def handle(event, context):
            asyncio.get_running_loop().call_soon(sys.exit, 0)
            return "ok"
        """)
    instance.connect().send(b"GET / HTTP/1.1\r\nHost: f\r\n\r\n")
    assert instance.wait() == 1
    wait_until(lambda: "SystemExit" in instance.log())
