"""SIGKILL to each part under load: which calls fail or wait, and for how long."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from support.gateway import HELLO, TOKEN
from support.live import Live, alive

pytestmark = pytest.mark.slow



class Load:
    """Calls warm functions without end, each on a new connection, and counts the outcomes."""

    def __init__(self, live: Live, *names: str) -> None:
        self.live = live
        self.names = names
        self.results: Counter[str] = Counter()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(name,)) for name in names]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        self.more(20)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, name: str) -> None:
        while not self._stop.is_set():
            try:
                self.results[str(self.live.invoke(name).status)] += 1
            except OSError as error:
                self.results[type(error).__name__] += 1

    def more(self, calls: int) -> None:
        """Wait until `calls` more calls have ended."""
        goal = self.results.total() + calls
        self.live.until(lambda: self.results.total() >= goal, f"{calls} more calls")

    @property
    def errors(self) -> dict[str, int]:
        return {result: count for result, count in self.results.items() if result != "200"}


def deploy_awake(live: Live, *names: str) -> None:
    live.deploy(names[0], TOKEN, image="token:test")
    for name in names[1:]:
        live.deploy(name, image="token:test")
    for name in names:
        assert live.invoke(name).status == 200


def test_warm_calls_go_on_when_the_controller_is_killed(own_platform: Live) -> None:
    deploy_awake(own_platform, "a", "b")
    before = own_platform.invoke("a").text
    with Load(own_platform, "a", "b") as load:
        killed = own_platform.kill("controller")
        load.more(200)
        own_platform.until(lambda: own_platform.pid("controller") != killed, "a new controller")
        own_platform.until(own_platform.answers, "the new controller to answer")
        load.more(50)
    assert load.errors == {}
    assert own_platform.invoke("a").text == before, "the new controller did not adopt the instance"
    assert own_platform.replicas("a") == 1


def test_a_held_request_goes_on_when_the_controller_is_back(own_platform: Live) -> None:
    own_platform.deploy("held", "import time\ntime.sleep(1)\n" + HELLO)
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(own_platform.invoke, "held")
        own_platform.until(lambda: own_platform.instances(), "the start to begin")
        own_platform.kill("controller")
        answer = held.result()
    assert (answer.status, answer.text) == (200, "hello")


def test_a_cold_call_without_a_controller_is_held(own_platform: Live) -> None:
    own_platform.deploy("patient", HELLO)
    pid = own_platform.pid("controller")
    os.kill(pid, signal.SIGSTOP)  # gone for the edge, but not yet replaced
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(own_platform.invoke, "patient")
        with pytest.raises(TimeoutError):
            held.result(0.5)
        os.kill(pid, signal.SIGKILL)
        answer = held.result()
    assert (answer.status, answer.text) == (200, "hello")


def test_an_adopted_function_still_sleeps_and_wakes(own_platform: Live) -> None:
    own_platform.deploy("adopted", TOKEN, labels={"com.openfaas.scale.zero-duration": "500ms"})
    own_platform.invoke("adopted")
    own_platform.kill("controller")
    own_platform.until(lambda: own_platform.answers() and own_platform.replicas("adopted") == 0, "the sleep")
    own_platform.until(lambda: not own_platform.instances(), "the instance to end")
    assert own_platform.invoke("adopted").cold


def test_requested_replicas_survive_a_new_controller_and_a_restart(own_platform: Live) -> None:
    own_platform.deploy("wide", TOKEN, annotations={"rescoldo.dev/idle-window": "1h"})
    body = {"serviceName": "wide", "replicas": 3}
    assert own_platform.system("POST", "/scale-function/wide", body).status == 202
    own_platform.until(lambda: own_platform.replicas("wide") == 3, "three instances")
    killed = own_platform.kill("controller")
    own_platform.until(lambda: own_platform.pid("controller") != killed, "a new controller")
    own_platform.until(own_platform.answers, "the new controller to answer")
    assert json.loads(own_platform.system("GET", "/function/wide?why=1").text)["why"]["minimum"] == 3
    assert own_platform.stop() == 0
    own_platform.start()
    own_platform.until(lambda: own_platform.replicas("wide") == 3, "three instances without a call")
    own_platform.sleep("wide")
    own_platform.stop()
    own_platform.start()
    assert json.loads(own_platform.system("GET", "/function/wide").text)["replicas"] == 0


def test_calls_go_on_after_the_edge_is_killed(own_platform: Live) -> None:
    deploy_awake(own_platform, "a", "b")
    before = own_platform.invoke("a").text
    with Load(own_platform, "a", "b") as load:
        own_platform.kill("edge")
        own_platform.until(own_platform.answers, "a new edge")
        begin = dict(load.errors)
        load.more(100)
        assert load.errors == begin, "calls failed although the new edge answered"
    # at most each client's one call in flight; calls on later connections waited
    assert sum(load.errors.values()) <= 2, load.errors
    assert not {status for status in load.errors if status.isdigit()}, load.errors
    assert own_platform.invoke("a").text == before


def test_warm_calls_go_on_when_the_node_is_killed(own_platform: Live) -> None:
    deploy_awake(own_platform, "a", "b")
    own_platform.deploy("asleep", image="token:test")
    before = own_platform.invoke("a").text
    with Load(own_platform, "a", "b") as load:
        own_platform.kill("node")
        cold = own_platform.invoke("asleep")
        load.more(100)
    assert load.errors == {}
    assert cold.status == 200, cold.text
    assert own_platform.invoke("a").text == before, "the new node did not adopt the instance"


def test_an_instance_adopted_by_a_new_node_falls_asleep(own_platform: Live) -> None:
    own_platform.deploy("nap", TOKEN, labels={"com.openfaas.scale.zero-duration": "700ms"})
    assert own_platform.invoke("nap").status == 200
    (pid,) = own_platform.instance_pids("nap")
    own_platform.kill("node")
    own_platform.until(lambda: not alive(pid), "the adopted instance to end")
    own_platform.until(lambda: own_platform.replicas("nap") == 0, "the function to count as asleep")
    assert own_platform.invoke("nap").status == 200


def test_warm_calls_go_on_when_the_zygote_is_killed(own_platform: Live) -> None:
    deploy_awake(own_platform, "a", "b")
    own_platform.deploy("asleep", image="token:test")
    with Load(own_platform, "a", "b") as load:
        own_platform.kill("zygote")
        cold = own_platform.invoke("asleep")
        load.more(100)
    assert load.errors == {}
    assert cold.status == 200, cold.text


def test_a_killed_instance_is_replaced_and_calls_of_others_go_on(own_platform: Live) -> None:
    deploy_awake(own_platform, "victim", "other")
    first = own_platform.invoke("victim").text
    (pid,) = own_platform.instance_pids("victim")
    with Load(own_platform, "other") as load:
        os.kill(pid, signal.SIGKILL)
        answer = own_platform.invoke("victim")
        load.more(50)
    assert load.errors == {}
    assert answer.status == 200
    assert answer.text != first


def test_idempotent_calls_survive_the_death_of_their_instance(own_platform: Live) -> None:
    deploy_awake(own_platform, "victim")
    with Load(own_platform, "victim") as load:
        for _ in range(5):
            assert own_platform.invoke("victim").status == 200
            for pid in own_platform.instance_pids("victim"):
                os.kill(pid, signal.SIGKILL)
            load.more(30)
    assert load.errors == {}


def test_a_post_that_crashes_its_instance_runs_once_and_gets_502(own_platform: Live) -> None:
    code = (
        "import os\n"
        "def handle(event, context):\n"
        "    if event.method == 'POST':\n"
        "        print('RUN', event.body.decode(), flush=True)\n"
        "        os._exit(1)\n"
        "    return 'fine'\n"
    )
    own_platform.deploy("crasher", code)
    assert own_platform.invoke("crasher").text == "fine"
    for number in range(5):
        assert own_platform.invoke("crasher", f"call-{number}").status == 502
    # also on a kept-alive connection, where a proxy may just drop the connection
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", own_platform.port)
    connection.request("GET", "/function/crasher")
    assert connection.getresponse().read() == b"fine"
    connection.request("POST", "/function/crasher", b"kept-alive")
    assert connection.getresponse().status == 502
    connection.close()
    own_platform.until(lambda: "RUN kept-alive" in own_platform.function_log("crasher"), "the log")
    log = own_platform.function_log("crasher")
    for mark in [f"RUN call-{number}" for number in range(5)] + ["RUN kept-alive"]:
        assert log.count(mark) == 1, log


CRASHES = """
import ctypes, os
def handle(event, context):
    if event.path == "/fine":
        return "fine"
    print("RUN", event.path, flush=True)
    if event.path == "/exit":
        os._exit(3)
    if event.path == "/segfault":
        ctypes.string_at(0)
    bytearray(300 * 2**20)
"""


def get(live: Live, path: str) -> tuple[int, str]:
    answer = live.invoke(f"crasher{path}")
    return answer.status, answer.text


def test_a_get_that_ends_its_instance_runs_twice_but_only_once_if_out_of_memory(own_platform: Live) -> None:
    own_platform.deploy("crasher", CRASHES, limits={"memory": "64Mi"})
    assert get(own_platform, "/fine") == (200, "fine")
    assert get(own_platform, "/exit")[0] == 502
    assert get(own_platform, "/segfault")[0] == 502
    if os.geteuid() == 0:  # without root memory has no limit
        status, text = get(own_platform, "/eats")
        assert status == 502
        assert "out of memory: it needed more than its limit of 64 MiB; the call is not retried" in text
    assert get(own_platform, "/fine") == (200, "fine")
    log = own_platform.function_log("crasher")
    assert [log.count(f"RUN /{how}") for how in ("exit", "segfault")] == [2, 2], log
    assert log.count("RUN /eats") == (os.geteuid() == 0), log
    assert "instance ended: exit status 3; replaced" in log


DEAFENS = """
import os, socket

def handle(event, context):
    if event.path in ("/shut", "/close"):
        for fd in map(int, os.listdir("/proc/self/fd")):
            try:
                found = socket.socket(fileno=os.dup(fd))
            except OSError:
                continue
            with found:
                if found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    found.shutdown(socket.SHUT_RDWR) if event.path == "/shut" else os.close(fd)
    return "fine"
"""


@pytest.mark.parametrize("how", ["shut", "close"])
@pytest.mark.parametrize("body", [None, "a POST"])
def test_a_function_that_takes_no_more_requests_is_replaced_within_a_second(
    own_platform: Live, how: str, body: str | None
) -> None:
    own_platform.deploy("deafens", DEAFENS)
    for _ in range(3):
        assert own_platform.invoke("deafens").status == 200
        assert own_platform.invoke(f"deafens/{how}", body).text == "fine"
        begun = time.monotonic()
        if how == "shut":  # after a shutdown calls are refused until the node notices; after a close they wait
            own_platform.until(lambda: own_platform.invoke("deafens", body).status == 200, "another instance")
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: own_platform.invoke("deafens", body), range(40)))
        assert {answer.status for answer in answers} == {200}
        assert time.monotonic() - begun < 3  # 0.8 s on a machine at rest


def test_nothing_is_left_when_the_platform_stops(own_platform: Live) -> None:
    deploy_awake(own_platform, "a", "b")
    pids = own_platform.instance_pids("a") + own_platform.instance_pids("b")
    pids += [own_platform.pid(name) for name in ("edge", "controller", "node", "zygote")]
    assert own_platform.stop() == 0
    assert [pid for pid in pids if alive(pid)] == []
    assert not own_platform.settings.run_path.exists()


def test_functions_and_their_counts_survive_a_restart(own_platform: Live) -> None:
    own_platform.deploy("kept", HELLO)
    for _ in range(3):
        own_platform.invoke("kept")
    own_platform.until(lambda: own_platform.invocations("kept") == 3, "calls to be counted")
    own_platform.stop()
    own_platform.start()
    assert own_platform.invocations("kept") == 3
    answer = own_platform.invoke("kept")
    assert (answer.status, answer.cold) == (200, True)


def test_functions_serve_within_seconds_after_edge_controller_and_node_are_killed(own_platform: Live) -> None:
    deploy_awake(own_platform, "a", "b")
    for name in ("edge", "controller", "node"):
        own_platform.kill(name)
    begin = time.monotonic()
    own_platform.until(own_platform.answers, "the platform to answer")
    assert own_platform.invoke("a").status == 200
    assert own_platform.invoke("b").status == 200
    assert time.monotonic() - begin < 10


COUNTS = """
import threading, time

def count():
    for number in range(100_000):
        print(number, flush=True)
        time.sleep(0.01)

threading.Thread(target=count, daemon=True).start()

def handle(event, context):
    return "counts"
"""


def test_a_followed_log_survives_the_end_of_controller_and_node_without_repeated_lines(
    own_platform: Live,
) -> None:
    own_platform.deploy("counts", COUNTS, annotations={"rescoldo.dev/idle-window": "1h"})
    own_platform.invoke("counts")
    out = own_platform.folder / "followed"
    url = f"http://127.0.0.1:{own_platform.port}"
    command = [own_platform.python, "-m", "rescoldo.cli", "logs", "counts", "-g", url, "--no-name", "--no-instance"]
    environment = own_platform.environment() | {"RESCOLDO_DATA": own_platform.settings.data}
    with out.open("wb") as file:
        following = subprocess.Popen(command, stdout=file, env=environment)

    def numbers() -> list[int]:
        lines = [line.split() for line in out.read_text().splitlines(keepends=True) if line.endswith("\n")]
        return [int(line[1]) for line in lines if len(line) == 2 and line[1].isdigit()]

    def more() -> None:
        goal = numbers()[-1] + 50
        own_platform.until(lambda: numbers()[-1] > goal, "the log to go on")

    try:
        own_platform.until(numbers, "the log to begin")
        more()
        own_platform.kill("controller")
        more()
        whole = numbers()
        assert whole == list(range(whole[0], whole[-1] + 1))
        own_platform.kill("node")
        more()
        found = numbers()
        assert len(set(found)) == len(found)
        # lost: lines that the node had read and not yet written, 50 ms of them, more on a busy machine
        assert len(range(found[0], found[-1] + 1)) - len(found) < 50
    finally:
        following.kill()
        following.wait()
