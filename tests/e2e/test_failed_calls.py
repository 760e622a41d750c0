"""A call whose instance ends during it: its id leads to the reason, in the function's log and description."""

from __future__ import annotations

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from support.gateway import Answer
from support.live import Live, alive

pytestmark = pytest.mark.slow
root = pytest.mark.root
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root for limits of memory")

ENDS = """
import os, time
def handle(event, context):
    print("RUN", event.method, flush=True)
    if event.path == "/exit":
        os._exit(3)
    if event.path == "/waits":
        time.sleep(60)
    if event.path == "/eats":
        bytearray(200 * 2**20)
    return "fine"
"""
PROGRAM = """
import http.server, time

class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        if self.path == "/waits":
            print("RUN", flush=True)
            time.sleep(60)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    do_GET = do_POST
http.server.HTTPServer(("127.0.0.1", 8000), Handler).serve_forever()
"""


def failures(platform: Live, name: str) -> list[dict[str, Any]]:
    found = json.loads(platform.system("GET", f"/function/{name}?usage=1").text)
    return list(found.get("failures", []))


def explained(platform: Live, name: str, answer: Answer) -> dict[str, Any]:
    """Return the failure that `describe` shows for the call with this answer; the log must show it too."""
    call_id = answer.headers["x-call-id"]

    def of_it() -> list[dict[str, Any]]:
        return [failure for failure in failures(platform, name) if failure["callId"] == call_id]

    platform.until(of_it, "the call to be explained")
    [failure] = of_it()
    line = f"call {call_id} failed: {failure['reason']}"
    platform.until(lambda: line in platform.function_log(name), "the call to be in the log", 5)
    return failure


@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize("given", ["", "order 66"])
def test_a_call_whose_handler_exits_is_explained(platform: Live, method: str, given: str) -> None:
    platform.deploy("exits", ENDS)
    headers = {"X-Call-Id": given} if given else {}
    answer = platform.call(method, "/function/exits/exit", headers=headers)
    assert answer.status == 502
    assert answer.headers["x-call-id"] == (given or answer.headers["x-call-id"])
    failure = explained(platform, "exits", answer)
    assert "exit status 3" in failure["reason"]
    assert failure["status"] == 502
    assert failure["instance"].startswith("exits-")
    platform.system("DELETE", "/functions", {"functionName": "exits"})


@root
@as_root
@pytest.mark.parametrize("method", ["POST", "GET"])
def test_a_call_that_runs_out_of_memory_is_explained(platform: Live, method: str) -> None:
    platform.deploy("eats", ENDS, limits={"memory": "64Mi"})
    answer = platform.call(method, "/function/eats/eats")
    assert answer.status == 502
    if "x-call-id" not in answer.headers:
        pytest.fail(f"no id: {answer.headers} {answer.text}")
    assert "64 MiB" in explained(platform, "eats", answer)["reason"]
    assert platform.function_log("eats").count("RUN") == 1
    platform.system("DELETE", "/functions", {"functionName": "eats"})


@pytest.mark.parametrize(("method", "runs"), [("POST", 1), ("GET", 2)])
def test_a_call_whose_program_is_killed_is_explained(platform: Live, tmp_path: Path, method: str, runs: int) -> None:
    folder = tmp_path / "program"
    folder.mkdir()
    (folder / "main.py").write_text(PROGRAM)
    platform.deploy_program("killed", folder, "python3 main.py", "http://127.0.0.1:8000")
    assert platform.invoke("killed").status == 200
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(platform.call, method, "/function/killed/waits")
        for run in range(1, runs + 1):
            platform.until(lambda run=run: platform.function_log("killed").count("RUN") == run, "it to run")
            [pid] = filter(alive, platform.instance_pids("killed"))
            os.kill(pid, signal.SIGKILL)
        answer = call.result()
    assert answer.status in (502, 503)
    assert "SIGKILL" in explained(platform, "killed", answer)["reason"]
    platform.system("DELETE", "/functions", {"functionName": "killed"})


def test_failed_calls_of_several_instances_are_each_explained(platform: Live) -> None:
    platform.deploy("many", ENDS, labels={"com.openfaas.scale.min": "2"}, annotations={"rescoldo.dev/concurrency": "2"})
    platform.until(lambda: platform.replicas("many") == 2, "two instances")
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(platform.invoke, "many/waits", "x") for _ in range(4)]
        platform.until(lambda: platform.function_log("many").count("RUN POST") == 4, "all to run")
        for pid in platform.instance_pids("many"):
            os.kill(pid, signal.SIGKILL)
        answers = [call.result() for call in calls]
    found = [explained(platform, "many", answer) for answer in answers]
    assert all("SIGKILL" in failure["reason"] for failure in found)
    assert sorted(count(found, "instance").values()) == [2, 2]
    platform.system("DELETE", "/functions", {"functionName": "many"})


def count(found: list[dict[str, Any]], key: str) -> dict[str, int]:
    values = [one[key] for one in found]
    return {value: values.count(value) for value in values}


@pytest.mark.parametrize("part", ["controller", "node"])
def test_a_call_that_fails_while_a_part_restarts_is_explained(own_platform: Live, part: str) -> None:
    own_platform.deploy("exits", ENDS)
    assert own_platform.invoke("exits").status == 200
    stopped = own_platform.pid(part)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(own_platform.invoke, "exits/waits", "x")
        own_platform.until(lambda: "RUN POST" in own_platform.function_log("exits"), "it to run")
        # the controller reads the edge's reports later; the node learns of the end by its note alone
        os.kill(stopped, signal.SIGKILL if part == "controller" else signal.SIGSTOP)
        if part == "controller":
            own_platform.until(lambda: not alive(stopped), "the controller to be gone")
            own_platform.invoke("exits")  # the edge loses a line that it writes to a reader that has just ended
        [pid] = own_platform.instance_pids("exits")
        os.kill(pid, signal.SIGKILL)
        answer = call.result()
        if part == "node":
            os.kill(stopped, signal.SIGKILL)
    assert answer.status == 502
    own_platform.until(lambda: own_platform.pid(part) != stopped, "the next one")
    own_platform.until(own_platform.answers, "the controller to answer")
    reason = explained(own_platform, "exits", answer)["reason"]
    assert ("SIGKILL" if part == "controller" else "unknown reason") in reason


def test_a_new_function_of_the_same_name_has_no_failures(platform: Live) -> None:
    platform.deploy("again", ENDS)
    explained(platform, "again", platform.invoke("again/exit", "x"))
    platform.system("DELETE", "/functions", {"functionName": "again"})
    platform.deploy("again", ENDS)
    assert failures(platform, "again") == []
