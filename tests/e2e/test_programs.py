"""Programs that speak HTTP, through the whole platform."""

from __future__ import annotations

import json
import operator
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from rescoldo.bundle.deps import Progress
from rescoldo.bundle.installer import run_installer
from rescoldo.isolation import netfence
from rescoldo.model.errors import BuildFailed
from rescoldo.node.sockets.probe import accepts
from rescoldo.stack.file import read_stack
from support.gateway import Answer
from support.live import Live, alive
from support.programs import leave_the_port, write_server

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[2] / "examples"
PORT = "http://127.0.0.1:8000"
NOBODY = 65_534
needs_fence = pytest.mark.skipif(
    os.geteuid() != 0 or not netfence.available(), reason="needs root and cgroup v2 for a network fence"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the server of programs.py."""
    return write_server(tmp_path_factory.mktemp("program")).parent


def look(live: Live, name: str, path: str = "/", **options: Any) -> dict[str, Any]:
    answer = live.call("GET", f"/function/{name}{path}", **options)
    assert answer.status == 200, answer.text
    return dict(json.loads(answer.text))


def addresses(live: Live, name: str) -> list[str]:
    """Return the addresses of the function's instances."""
    notes = [json.loads(note.read_text()) for note in live.settings.instance_state.glob("*.json")]
    return [note["address"] for note in notes if note["launch"]["function"] == f"{name}.openfaas-fn"]


def needed(program: str) -> str:
    """Return the path of a compiler or interpreter. Skip the test without one, but fail in CI, which promises it."""
    found = shutil.which(program) or shutil.which(program, path="/usr/local/go/bin")
    if found is None and not os.environ.get("CI"):
        pytest.skip(f"needs {program}")
    assert found is not None, f"{program} is missing"
    return found


# -- the examples


@pytest.mark.parametrize(
    ("example", "tool", "folder", "command", "answer"),
    [
        ("go-http", "go", "bin", "./server", "Go: POST /a/b?c=d hello\n"),
        ("c-http", "cc", "bin", "./server", "C: /a/b?c=d\n"),
        ("node-http", "node", "function", "node index.js", "Node: POST /a/b?c=d hello\n"),
    ],
)
def test_an_example_is_built_deployed_and_called_from_zero(
    platform: Live, tmp_path: Path, example: str, tool: str, folder: str, command: str, answer: str
) -> None:
    source = shutil.copytree(EXAMPLES / example, tmp_path / example, ignore=shutil.ignore_patterns("bin"))
    compiler = needed(tool)
    if (source / "Makefile").exists():
        environment = {**os.environ, "PATH": f"{Path(compiler).parent}:{os.environ['PATH']}"}
        subprocess.run(["make", "-s"], cwd=source, env=environment, check=True)
    platform.deploy_program(example, source / folder, command, PORT)

    def call() -> Answer:
        answered = platform.call("POST", f"/function/{example}/a/b?c=d", "hello")
        assert (answered.status, answered.text) == (200, answer)
        return answered

    assert call().cold
    platform.until(lambda: not call().cold, "the edge to know its route")


@pytest.mark.parametrize(
    ("example", "answer"),
    [
        ("flask-gunicorn", "Flask: POST /a/b?c=d hello\n"),
        ("fastapi-uvicorn", "FastAPI: POST /a/b?c=d hello\n"),
    ],
)
def test_a_server_of_its_requirements_serves_a_python_application(platform: Live, example: str, answer: str) -> None:
    (function,) = read_stack(str(EXAMPLES / example / "stack.yaml")).functions
    upstream = function.environment["upstream_url"]
    try:
        platform.deploy_program(example, function.handler, function.fprocess, upstream, run_installer)
    except BuildFailed as error:
        if "No solution" in error.message or "No matching" in error.message:
            raise
        pytest.skip(f"the package index is out of reach: {error.message[-200:]}")
    cold = platform.call("POST", f"/function/{example}/a/b?c=d", "hello")
    assert (cold.status, cold.text, cold.cold) == (200, answer, True), platform.log()
    assert platform.call("POST", f"/function/{example}/a/b?c=d", "hello").text == answer


@pytest.mark.parametrize("upstream", [PORT, "inherited"])
def test_a_script_of_the_requirements_can_be_the_command_and_import_them(
    platform: Live, tmp_path: Path, upstream: str
) -> None:
    """A small gunicorn: a script in bin/ that serves an application in the function's folder."""
    name = f"scripted-{upstream[:4]}"
    folder = tmp_path / "function"
    folder.mkdir()
    (folder / "requirements.txt").write_text("serving\n")
    (folder / "app.py").write_text("import serving\nANSWER = f'app of {serving.__name__}'.encode()\n")

    def run(argv: Sequence[str], work: Path, on_line: Progress) -> int:
        (work / "deps" / "bin").mkdir()
        script = work / "deps" / "bin" / "serve"
        script.write_text(f"#!{sys.executable}\nimport sys\nfrom serving import main\nsys.exit(main())\n")
        script.chmod(0o755)
        (work / "deps" / "serving.py").write_text(SERVING)
        return 0

    platform.deploy_program(name, folder, "serve app:ANSWER", upstream, run)
    assert platform.call("GET", f"/function/{name}").text == "app of serving"


SERVING = """
import os, socket, socketserver, sys
from http.server import BaseHTTPRequestHandler
from importlib import import_module

class Handler(BaseHTTPRequestHandler):
    def address_string(self):
        return "edge"
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

def main():
    global answer
    sys.path.insert(0, os.getcwd())
    module, _, name = sys.argv[1].partition(":")
    answer = getattr(import_module(module), name)
    if "LISTEN_FDS" in os.environ:
        listener = socket.socket(fileno=3)
    else:
        listener = socket.create_server(("127.0.0.1", int(os.environ["PORT"])))
    while True:
        connection, _ = listener.accept()
        try:
            Handler(connection, "edge", None)
        finally:
            connection.close()
"""


@pytest.mark.parametrize("upstream", ["unix", "inherited"])
def test_the_go_example_takes_requests_at_a_unix_socket(platform: Live, tmp_path: Path, upstream: str) -> None:
    source = shutil.copytree(EXAMPLES / "go-http", tmp_path / "go", ignore=shutil.ignore_patterns("bin"))
    go = needed("go")
    subprocess.run([go, "build", "-o", "bin/server", "."], cwd=source, check=True)
    platform.deploy_program(f"go-{upstream}", source / "bin", "./server", upstream)
    assert platform.invoke(f"go-{upstream}").text == "Go: GET / \n"


# -- ports


@needs_fence
@pytest.mark.parametrize(
    ("name", "host"), [("any4", "0.0.0.0"), ("own4", "127.0.0.1"), ("any6", "::"), ("own6", "::1")]
)
def test_each_instance_of_a_function_has_the_same_port_to_itself(
    platform: Live, server: Path, name: str, host: str
) -> None:
    platform.deploy_program(name, server, "./server", PORT, envVars={"HOST": host})
    look(platform, name)
    assert platform.system("POST", f"/scale-function/{name}", {"serviceName": name, "replicas": 3}).status == 202
    platform.until(lambda: platform.replicas(name) == 3, "three instances")
    assert len(set(addresses(platform, name))) == 3
    platform.until(lambda: len({look(platform, name)["uid"] for _ in range(20)}) == 3, "all instances to answer")
    platform.sleep(name)


@needs_fence
def test_functions_with_the_same_port_run_side_by_side_without_reaching_each_other(
    platform: Live, server: Path
) -> None:
    for name in ("left", "right"):
        platform.deploy_program(name, server, "./server", PORT)
    assert look(platform, "left")["uid"] != look(platform, "right")["uid"]
    (right,) = addresses(platform, "right")
    (left,) = addresses(platform, "left")
    assert look(platform, "left", f"/reach/{left.replace(':', '/')}") == {"result": "reached"}
    assert look(platform, "left", f"/reach/{right.replace(':', '/')}") == {"result": "PermissionError"}


@needs_fence
def test_another_user_of_the_machine_does_not_reach_a_programs_port(platform: Live, server: Path) -> None:
    platform.deploy_program("private", server, "./server", PORT)
    look(platform, "private")
    ((host, port),) = [address.split(":") for address in addresses(platform, "private")]
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setresuid(NOBODY, NOBODY, NOBODY)
            socket.create_connection((host, int(port)), 2)
        except PermissionError:
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# -- deployments


def test_a_program_without_a_command_or_an_upstream_is_refused_at_its_deployment(platform: Live, server: Path) -> None:
    platform.deploy_program("complete", server, "./server", PORT)
    for spec in ({}, {"envProcess": "./server"}):
        answer = platform.system("POST", "/functions", {"service": "half", "image": "complete:test", **spec})
        assert answer.status == 400
        assert "set fprocess to its command and the environment variable upstream_url" in answer.text
    wrong = {"envProcess": "./server", "envVars": {"upstream_url": "http://10.0.0.1:80"}}
    answer = platform.system("POST", "/functions", {"service": "half", "image": "complete:test", **wrong})
    assert (answer.status, "use http://127.0.0.1:PORT, unix or inherited" in answer.text) == (400, True)


def test_the_caller_gets_the_reason_of_a_failed_start(platform: Live, server: Path) -> None:
    platform.deploy_program("broken", server, "./server", PORT, envVars={"EXIT": "3"})
    answer = platform.invoke("broken")
    assert answer.status == 502
    assert "exit status 3 before it was ready\nhello from the program" in answer.text


def test_a_call_over_the_deadline_gets_a_504(platform: Live, server: Path) -> None:
    platform.deploy_program("slow", server, "./server", "inherited", envVars={"exec_timeout": "300ms"})
    assert look(platform, "slow", "/slow/0")["path"] == "/slow/0"
    answer = platform.call("GET", "/function/slow/slow/30")
    assert (answer.status, answer.text) == (504, "the function did not answer in time\n")
    assert answer.seconds < 5


def test_a_body_that_is_too_large_is_refused(platform: Live, server: Path) -> None:
    platform.deploy_program("narrow", server, "./server", PORT, annotations={"rescoldo.dev/max-body": "10"})
    assert platform.invoke("narrow", b"x" * 10).status == 200
    assert platform.invoke("narrow", b"x" * 11).status == 413


# -- ends


@pytest.fixture
def getting(platform: Live) -> Iterator[Getting]:
    with Getting(platform) as calls:
        yield calls


class Getting:
    """Calls a function until `stop`, one GET after another."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self.answers: list[int] = []  # their number for each thread
        self.failed: list[str] = []

    def __enter__(self) -> Getting:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, name: str) -> None:
        self._threads.append(threading.Thread(target=self._run, args=(name, len(self._threads))))
        self.answers.append(0)
        self._threads[-1].start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, name: str, thread: int) -> None:
        while not self._stop.is_set():
            answer = self._live.invoke(name)
            self.answers[thread] += 1
            if answer.status != 200:
                self.failed.append(f"{answer.status} after {answer.seconds:.3f} s: {answer.text}")


@pytest.mark.parametrize("upstream", [PORT, "unix", "inherited"])
def test_a_program_that_is_killed_fails_no_get(platform: Live, server: Path, getting: Getting, upstream: str) -> None:
    name = f"killed-{upstream[:4]}"
    platform.deploy_program(name, server, "./server", upstream)
    kill_again_and_again(platform, name, getting)
    assert getting.failed == [], f"{platform.function_log(name)}\n{platform.log()[-3000:]}"


def kill_again_and_again(platform: Live, name: str, getting: Getting) -> None:
    """Kill the function's only instance three times during calls; each time another instance takes its place. No call
    meets two of the kills: the first one uses up its second attempt."""
    assert look(platform, name)["uid"]
    for _ in range(2):
        getting.start(name)
    for _ in range(3):
        enough = [had + 10 for had in getting.answers]
        platform.until(lambda: all(map(operator.gt, getting.answers, enough)), "calls in each thread")  # noqa: B023
        pid = running(platform, name)[0]["pid"]  # or one more, for calls that waited in the dead one's slot
        os.kill(pid, signal.SIGKILL)
        platform.until(lambda: not alive(pid), "its end")  # noqa: B023
        platform.until(lambda: [note for note in running(platform, name) if note["pid"] != pid], "another")  # noqa: B023
    getting.stop()


@pytest.mark.parametrize("delay", [0, 2.5])  # duration of a start in s: longer than the edge's wait before a retry
@pytest.mark.parametrize("upstream", [PORT, "unix", "inherited"])
def test_another_instance_answers_a_long_get_whose_program_is_killed(
    platform: Live, server: Path, upstream: str, delay: float
) -> None:
    name = f"long-{upstream[:4]}-{delay:.0f}"
    platform.deploy_program(name, server, "./server", upstream, envVars={"DELAY": str(delay)})
    first = look(platform, name)
    with ThreadPoolExecutor() as pool:
        call = pool.submit(platform.call, "GET", f"/function/{name}/slow/3")
        platform.until(lambda: "RUN /slow/3" in platform.function_log(name), "the call to reach the program")
        os.kill(running(platform, name)[0]["pid"], signal.SIGKILL)
        answer = call.result()
    assert answer.status == 200, f"{answer.text}\n{platform.function_log(name)}\n{platform.log()[-2000:]}"
    assert json.loads(answer.text)["uid"] != first["uid"] or upstream == "inherited"


@pytest.mark.parametrize("upstream", [PORT, "unix", "inherited"])
def test_a_get_that_ends_its_program_runs_twice(platform: Live, server: Path, upstream: str) -> None:
    name = f"crash-{upstream[:4]}"
    platform.deploy_program(name, server, "./server", upstream)
    assert look(platform, name)["uid"]
    assert platform.call("GET", f"/function/{name}/crash").status == 502
    assert look(platform, name)["uid"]
    log = platform.function_log(name)
    assert log.count("RUN /crash") == 2, log


@pytest.mark.parametrize(("upstream", "runs"), [(PORT, 3), ("inherited", 2)])
def test_a_get_that_a_program_does_not_answer_is_retried_once_and_at_a_port_twice(
    platform: Live, server: Path, upstream: str, runs: int
) -> None:
    name = f"silent-{upstream[:4]}"
    platform.deploy_program(name, server, "./server", upstream)
    assert platform.call("GET", f"/function/{name}/hangup").status == 502
    assert platform.call("POST", f"/function/{name}/hangup-on-post", "x").status == 502
    assert look(platform, name)["uid"]
    log = platform.function_log(name).splitlines()
    assert (log.count("RUN /hangup"), log.count("RUN /hangup-on-post")) == (runs, 1), log


@needs_fence
def test_no_get_is_lost_at_the_moment_when_a_program_at_a_port_ends(platform: Live, server: Path) -> None:
    """An immediate retry may meet a socket that is about to close: of 25 calls 4 did, and got 502."""
    platform.deploy_program("moments", server, "./server", PORT)
    with ThreadPoolExecutor() as pool:
        for number in range(12):
            assert look(platform, "moments")["uid"]
            call = pool.submit(platform.call, "GET", f"/function/moments/slow/0.3?{number}")
            told = f"RUN /slow/0.3?{number}"
            platform.until(lambda: told in platform.function_log("moments"), "the call to arrive")  # noqa: B023
            os.kill(running(platform, "moments")[0]["pid"], signal.SIGKILL)
            assert call.result().status == 200, number


@needs_fence  # limits of memory exist at the same level
@pytest.mark.parametrize("upstream", [PORT, "unix", "inherited"])
def test_a_get_that_runs_out_of_memory_runs_once(platform: Live, server: Path, upstream: str) -> None:
    name = f"eats-{upstream[:4]}"
    platform.deploy_program(name, server, "./server", upstream, limits={"memory": "64Mi"})
    assert look(platform, name)["uid"]
    answer = platform.call("GET", f"/function/{name}/eats")
    assert (answer.status, "out of memory" in answer.text) == (502, True), answer.text
    assert look(platform, name)["uid"]
    log = platform.function_log(name)
    assert log.count("RUN /eats") == 1, log


@needs_fence
def test_a_program_that_closes_its_port_for_a_moment_fails_no_call(platform: Live, server: Path) -> None:
    first = close_port(platform, server, "reopens", seconds=1)
    for method, body in (("GET", None), ("POST", "hello")):
        answer = platform.call(method, "/function/reopens", body)
        assert answer.status == 200, answer.text
    assert [note["pid"] for note in running(platform, "reopens")] == [first]


@needs_fence
def test_requests_for_an_ended_program_also_wait_at_the_next_node(own_platform: Live, server: Path) -> None:
    own_platform.deploy_program("adopted", server, "./server", PORT)
    assert look(own_platform, "adopted")["uid"]
    node = own_platform.kill("node")
    own_platform.until(lambda: own_platform.pid("node") != node and own_platform.replicas("adopted") == 1, "a node")
    (note,) = running(own_platform, "adopted")
    stand_in = netfence.stand_in_of(note["uid"])
    own_platform.until(lambda: accepts(socket.AF_INET, (stand_in, 8000)), "the stand-in")
    os.kill(note["pid"], signal.SIGKILL)
    own_platform.until(lambda: not alive(note["pid"]), "its end")
    assert own_platform.invoke("adopted", "a POST").status == 200


@needs_fence
def test_a_program_that_has_closed_its_port_is_replaced(platform: Live, server: Path) -> None:
    first = close_port(platform, server, "closed", seconds=60)
    for method, body in (("POST", "hello"), ("GET", None)):
        answer = platform.call(method, "/function/closed", body)
        assert answer.status == 200, answer.text
    assert not alive(first)
    assert "no longer takes requests: nobody listens at its port 8000" in platform.function_log("closed")


def close_port(live: Live, server: Path, name: str, *, seconds: int) -> int:
    """Deploy a program and let it close its port for `seconds`; return its pid."""
    live.deploy_program(name, server, "./server", PORT, envVars={"MAY_BE_DEAF": "1"})
    assert look(live, name, f"/deaf/{seconds}")["uid"]
    first = running(live, name)[0]["pid"]
    live.until(lambda: "deaf now" in live.function_log(name), "the port to be closed")
    return int(first)


def running(live: Live, name: str) -> list[dict[str, Any]]:
    """Return the notes of the function's ready instances."""
    notes = []
    for file in live.settings.instance_state.glob("*.json"):
        try:
            notes.append(json.loads(file.read_text()))
        except FileNotFoundError:  # the instance has just been removed
            continue
    return [n for n in notes if n["launch"]["function"] == f"{name}.openfaas-fn" and n["ready"] and alive(n["pid"])]


@needs_fence
def test_a_program_that_closes_its_port_finishes_its_calls_and_is_replaced(platform: Live, server: Path) -> None:
    leave_the_port(platform, server, "left-port", PORT)


def test_a_program_that_keeps_dying_is_started_with_pauses(platform: Live, tmp_path: Path) -> None:
    folder = tmp_path / "dying"
    script = write_server(folder)
    script.write_text(script.read_text().replace("deaf_for = []", "listener.accept(); os._exit(9)"))
    platform.deploy_program("dying", folder, "./server", PORT, labels={"com.openfaas.scale.zero": "false"})
    platform.until(lambda: platform.log().count("dying.openfaas-fn") >= 5, "five deaths")
    text = platform.log()
    assert text.count("dying.openfaas-fn lost") + text.count("dying.openfaas-fn did not start") < 40
    assert platform.system("DELETE", "/functions", {"functionName": "dying"}).status == 202
