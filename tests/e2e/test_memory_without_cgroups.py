"""Memory limits as in an unprivileged pod: a container of 500 MiB, and no cgroups of the platform's own.

Measured with 2 cores and much other work on them (load 9 to 37), rounds of functions that each take 200 MiB at once,
as fast as they can. Of the instances that ended, the kernel killed 25 of 94 (eight at a time) before instances were
stopped and had a lower priority, and 0 of 241 since. In other forms, since then: 0 of 120 where they keep what they
took, 0 of 70 in shared memory, 0 of 106 with a limit of 32Mi each, 2 of 149 with half a cpu, 3 of 232 with four
children each, 11 of 528 with 32 at a time. No call of another function failed; the longest took 0.85 s, with 32 at a
time.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from rescoldo.node.zygotes.zygote import INSTANCE_NICE
from support.contained import MIB, NEEDS, ContainedLive, Pod
from support.gateway import Answer
from support.live import alive, children_of, comm
from support.unprivileged import interpreter, readable_library

pytestmark = NEEDS

LIMIT = 500
BOMB = "def handle(event, context):\n    kept = b'x' * (200 << 20)\n    return str(len(kept))\n"
# keeps what it took, so that a poll comes in time
GREEDY = """
import os, time
def handle(event, context):
    print("asked")
    kept = b"x" * (200 << 20)
    time.sleep(60)
"""
CHILD = """
import os, time
def handle(event, context):
    if not os.fork():
        os.setsid()
        kept = b"x" * (200 << 20)
        time.sleep(60)
        os._exit(0)
    time.sleep(60)
"""
CALM = "import os\ndef handle(event, context):\n    return str(os.getpid())\n"
KEEPS = """
import os
kept = b"x" * (45 << 20)
def handle(event, context):
    return str(os.getpid())
"""


@pytest.fixture(scope="module")
def library() -> Iterator[Path]:
    with readable_library() as folder:
        yield folder


@pytest.fixture
def pod() -> Iterator[Pod]:
    made = Pod(LIMIT * MIB)
    yield made
    made.remove()


@pytest.fixture
def live(pod: Pod, library: Path) -> Iterator[ContainedLive]:
    python = interpreter()
    assert python is not None
    with ContainedLive(pod, library, python) as made:
        yield made


def calls(live: ContainedLive, paths: list[str], method: str = "POST") -> list[Answer]:
    """Make the calls at once."""
    answers: list[Answer] = []
    threads = [
        threading.Thread(target=lambda path=path: answers.append(live.call(method, path)), daemon=True)
        for path in paths
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return answers


def test_the_platform_takes_the_containers_limit_for_its_own(live: ContainedLive) -> None:
    status = json.loads(live.system("GET", "/status").text)
    assert status["isolation"]["memory"] == f"{LIMIT} MiB of the container"
    assert status["isolation"]["limits"] == "memory polled"
    assert status["spares"]["most"] == 10


@pytest.mark.parametrize("code", [GREEDY, CHILD])
def test_a_function_beyond_its_limit_is_killed_and_reported_as_out_of_memory(
    live: ContainedLive, pod: Pod, code: str
) -> None:
    live.deploy("greedy", code, limits={"memory": "64Mi"})
    answer = live.call("GET", "/function/greedy")
    assert answer.status == 502
    live.until(lambda: "out of memory" in live.function_log("greedy"), "the reason")
    log = live.function_log("greedy")
    assert "instance ended: out of memory: it needed more than its limit of 64 MiB; replaced" in log
    assert log.count("asked") <= 2  # a GET is repeated once at most
    assert pod.kernel_kills() == 0


def test_functions_that_take_all_memory_at_once_take_neither_others_nor_the_worker_down(
    live: ContainedLive, pod: Pod
) -> None:
    bombs = [f"bomb{number}" for number in range(8)]
    for name in bombs:
        live.deploy(name, BOMB)  # with the default limit, which is above the container's
    live.deploy("calm", CALM)
    pid = int(live.call("GET", "/function/calm").text)
    parts = {name: live.pid(name) for name in ("guardian", "supervisor", "edge", "node", "controller")}
    for _ in range(4):
        others = calls(live, [f"/function/{name}" for name in bombs])
        assert {answer.status for answer in others} <= {200, 502, 503}
        assert live.call("GET", "/function/calm").text == str(pid)
    assert {name: live.pid(name) for name in parts} == parts
    assert all(map(alive, parts.values()))
    logs = "".join(map(live.function_log, bombs))
    assert "out of memory" in logs
    assert "SIGKILL" not in logs  # also what the kernel killed is reported as out of memory


def test_the_kernel_would_kill_instances_first_and_the_platform_has_the_processor_first(live: ContainedLive) -> None:
    live.deploy("calm", CALM)
    pid = int(live.call("GET", "/function/calm").text)
    assert Path(f"/proc/{pid}/oom_score_adj").read_text() == "1000\n"
    spares = [child for child in children_of(live.pid("zygote")) if comm(child) == "rescoldo-spare"]
    priorities = {os.getpriority(os.PRIO_PROCESS, process) for process in (pid, *spares)}
    assert priorities == {os.getpriority(os.PRIO_PROCESS, live.pid("node")) + INSTANCE_NICE}


def test_starts_that_do_not_fit_are_refused_and_nothing_is_killed_for_them(live: ContainedLive, pod: Pod) -> None:
    live.deploy("other", CALM)
    live.system("POST", "/scale-function/other", {"replicas": 0})
    live.deploy("keeps", KEEPS)
    pid = live.call("GET", "/function/keeps").text
    live.system("POST", "/scale-function/keeps", {"replicas": 9})
    live.until(lambda: "MiB of memory are used" in live.log(), "a refused start")
    live.until(lambda: live.replicas("keeps") >= 3, "the starts that fit")
    assert live.replicas("keeps") < 9
    assert "out of memory" not in live.log()
    assert pod.kernel_kills() == 0
    assert alive(int(pid))
