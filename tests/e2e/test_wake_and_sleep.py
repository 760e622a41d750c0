"""From zero and to zero, through the whole platform."""

from __future__ import annotations

import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.gateway import HELLO, TOKEN
from support.live import Live

pytestmark = pytest.mark.slow

WINDOW = {"com.openfaas.scale.zero-duration": "300ms"}


def test_a_new_function_has_no_instance_and_the_first_call_wakes_it(platform: Live) -> None:
    platform.deploy("first", HELLO)
    assert platform.replicas("first") == 0
    cold = platform.invoke("first")
    assert (cold.status, cold.text, cold.cold) == (200, "hello", True)
    later = []

    def warm() -> bool:
        later.append(platform.invoke("first"))
        return not later[-1].cold

    platform.until(warm, "the edge to know its route")
    assert {(answer.status, answer.text) for answer in later} == {(200, "hello")}
    assert platform.replicas("first") == 1


def test_answers_carry_call_id_start_time_and_duration(platform: Live) -> None:
    platform.deploy("headers", HELLO)
    answer = platform.invoke("headers")
    assert len(answer.headers["x-call-id"]) == 36
    assert len(answer.headers["x-start-time"]) == 19
    assert float(answer.headers["x-duration-seconds"]) >= 0
    given = platform.invoke("headers", headers={"X-Call-Id": "mine"})
    assert "x-call-id" not in given.headers


def test_an_idle_function_sleeps_after_its_window_and_wakes_again(platform: Live) -> None:
    platform.deploy("nap", TOKEN, labels=WINDOW)
    first = platform.invoke("nap").text
    platform.until(lambda: platform.replicas("nap") == 0, "nap to sleep")
    again = platform.invoke("nap")
    assert again.cold
    assert again.text != first


def test_a_function_with_a_call_in_flight_does_not_sleep(platform: Live) -> None:
    code = "import time\ndef handle(event, context):\n    time.sleep(1.2)\n    return 'done'\n"
    platform.deploy("busy", code, labels=WINDOW)
    answer = platform.invoke("busy")
    assert (answer.status, answer.text) == (200, "done")


@pytest.mark.parametrize("labels", [{"com.openfaas.scale.zero": "false"}, {"com.openfaas.scale.min": "1"}])
def test_a_function_that_must_not_sleep_is_awake_before_its_first_call(platform: Live, labels: dict[str, str]) -> None:
    name = "awake-" + str(len(json.dumps(labels)))
    platform.deploy(name, HELLO, labels={**WINDOW, **labels})
    platform.until(lambda: platform.replicas(name) == 1, "the function to be awake")
    awake = platform.instance_pids(name)
    assert platform.invoke(name).status == 200
    assert platform.instance_pids(name) == awake != []


def test_simultaneous_first_calls_share_one_start(platform: Live) -> None:
    platform.deploy("shared", TOKEN)
    barrier = threading.Barrier(20)

    def call() -> str:
        barrier.wait()
        answer = platform.invoke("shared")
        assert answer.status == 200
        return answer.text

    with ThreadPoolExecutor(20) as pool:
        instances = set(pool.map(lambda _: call(), range(20)))
    assert len(instances) == 1


def test_a_slow_start_does_not_delay_the_wake_of_another_function(platform: Live) -> None:
    platform.deploy("slow-start", "import time\ntime.sleep(3)\n" + HELLO)
    platform.deploy("quick-start", HELLO)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(platform.invoke, "slow-start")
        quick = platform.invoke("quick-start")
        assert not slow.done()
        assert quick.status == 200
        assert slow.result().status == 200


def test_a_body_sent_to_a_sleeping_function_arrives_whole(platform: Live) -> None:
    code = "import hashlib\ndef handle(event, context):\n    return hashlib.sha256(event.body).hexdigest()\n"
    platform.deploy("digest", code)
    import hashlib

    body = bytes(range(256)) * 20_000  # 5 MB
    answer = platform.invoke("digest", body)
    assert (answer.status, answer.text, answer.cold) == (200, hashlib.sha256(body).hexdigest(), True)


def test_a_chunked_body_to_a_sleeping_function_arrives_whole(platform: Live) -> None:
    platform.deploy("chunks", "def handle(event, context):\n    return event.body\n")
    with socket.create_connection(("127.0.0.1", platform.port)) as client:
        client.sendall(
            b"POST /function/chunks HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
            b"3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n"
        )
        received = b""
        while chunk := client.recv(65536):
            received += chunk
    assert received.startswith(b"HTTP/1.1 200")
    assert b"abcdefg" in received


def test_a_streamed_answer_arrives_piece_by_piece(platform: Live) -> None:
    code = (
        "import time\n"
        "def handle(event, context):\n"
        "    yield 'one '\n"
        "    time.sleep(1)\n"
        "    yield 'two'\n"
    )
    platform.deploy("stream", code)
    platform.invoke("stream")
    with socket.create_connection(("127.0.0.1", platform.port)) as client:
        client.sendall(b"GET /function/stream HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        received = b""
        while b"one " not in received:
            received += client.recv(65536)
        assert b"two" not in received
        while chunk := client.recv(65536):
            received += chunk
    assert b"two" in received


def test_path_query_and_namespace_reach_the_function(platform: Live) -> None:
    code = "def handle(event, context):\n    return {'body': {'path': event.path, 'q': event.query.get('a')}}\n"
    platform.deploy("echo", code)
    answer = platform.call("GET", "/function/echo.openfaas-fn/some/path/?a=1")
    assert json.loads(answer.text) == {"path": "/some/path/", "q": "1"}
    assert json.loads(platform.call("GET", "/function/echo").text)["path"] == "/"


def test_scaling_to_a_number_starts_and_stops_instances(platform: Live) -> None:
    platform.deploy("many", TOKEN)
    platform.system("POST", "/scale-function/many", {"serviceName": "many", "replicas": 3})
    platform.until(lambda: platform.replicas("many") == 3, "three instances")
    assert len({platform.invoke("many").text for _ in range(30)}) > 1
    platform.system("POST", "/scale-function/many", {"serviceName": "many", "replicas": 1})
    platform.until(lambda: platform.replicas("many") == 1, "one instance")
    assert platform.invoke("many").status == 200
    platform.sleep("many")
    assert platform.invoke("many").cold


def test_a_new_deployment_serves_the_next_call(platform: Live) -> None:
    platform.deploy("versions", "def handle(event, context):\n    return 'one'\n")
    assert platform.invoke("versions").text == "one"
    platform.deploy("versions", "def handle(event, context):\n    return 'two'\n")
    assert platform.invoke("versions").text == "two"


def test_a_bundle_is_removed_when_no_revision_needs_it(platform: Live) -> None:
    def bundles() -> set[str]:
        return {folder.name for folder in platform.settings.bundles.iterdir()}

    others = bundles()
    platform.deploy("rebuilt", "def handle(event, context):\n    return 'before'\n")
    assert platform.invoke("rebuilt").text == "before"
    (old,) = bundles() - others
    platform.deploy("rebuilt", "def handle(event, context):\n    return 'after'\n")
    assert platform.invoke("rebuilt").text == "after"
    assert old in bundles()  # a rollback may need it
    platform.sleep("rebuilt")
    assert platform.invoke("rebuilt").text == "after"
    platform.system("DELETE", "/functions", {"functionName": "rebuilt"})
    platform.until(lambda: old not in bundles(), "the old bundle to be removed")


def test_a_removed_function_is_unknown_at_once(platform: Live) -> None:
    platform.deploy("gone", HELLO)
    assert platform.invoke("gone").status == 200
    assert platform.system("DELETE", "/functions", {"functionName": "gone"}).status == 202
    answer = platform.invoke("gone")
    assert answer.status == 404
    assert "gone.openfaas-fn" in answer.text


def test_no_request_fails_while_functions_sleep_and_wake_all_the_time(platform: Live) -> None:
    names = [f"race-{number}" for number in range(4)]
    platform.deploy(names[0], HELLO, labels={"com.openfaas.scale.zero-duration": "50ms"})
    for name in names[1:]:
        platform.deploy(name, image=f"{names[0]}:test", labels={"com.openfaas.scale.zero-duration": "50ms"})
    pauses = [0.0, 0.05, 0.06, 0.1, 0.3, 0.31, 0.35, 0.4]

    def calls(name: str) -> int:
        cold = 0
        for number in range(25):
            answer = platform.invoke(name)
            assert answer.status == 200, (name, number, answer.status, answer.text)
            cold += answer.cold
            threading.Event().wait(pauses[number % len(pauses)])  # the pause is the load, not a wait for something
        return cold

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(calls, names)) > 8


def test_every_call_is_counted(platform: Live) -> None:
    platform.deploy("counted", "def handle(event, context):\n    return {'statusCode': 418, 'body': 'tea'}\n")
    for _ in range(25):
        assert platform.invoke("counted").status == 418
    platform.until(lambda: platform.invocations("counted") == 25, "25 calls to be counted")
    expected = 'gateway_function_invocation_total{code="418",function_name="counted.openfaas-fn"} 25.0'
    assert expected in _metrics(platform)


def test_metrics_forget_a_removed_function_but_keep_its_count_for_its_return(platform: Live) -> None:
    platform.deploy("leaver", HELLO)
    assert platform.invoke("leaver").status == 200
    platform.until(lambda: platform.invocations("leaver") == 1, "the call to be counted")
    assert platform.system("DELETE", "/functions", {"functionName": "leaver"}).status == 202
    platform.until(lambda: "leaver.openfaas-fn" not in _metrics(platform), "the function to be forgotten")
    platform.deploy("leaver", image="leaver:test")
    assert platform.invocations("leaver") == 1


def test_the_threads_of_the_controller_share_one_heap(platform: Live) -> None:
    assert platform.system("GET", "/functions").status == 200
    maps = Path(f"/proc/{platform.pid('controller')}/maps").read_text().splitlines()
    # glibc reserves 64 MiB of addresses for each further heap
    reserved = [line for line in maps if line.split()[1] == "---p" and _size(line) > 32 * 2**20]
    assert not reserved, "see isolation/heap.py"


def _size(mapping: str) -> int:
    first, _, last = mapping.split()[0].partition("-")
    return int(last, 16) - int(first, 16)


def _metrics(platform: Live) -> str:
    return platform.call("GET", "/metrics", headers=platform.authorization()).text
