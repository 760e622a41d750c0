"""What a function in a worker can do to its neighbours there: memory and processors, in real pods.

Pods are as Pod Security "restricted" wants them, so functions have no cgroups and no users of their own.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import pytest

from support.gateway import HELLO
from support.pods import PodPlatform, pod

pytestmark = pytest.mark.slow

BOMBS = 8
ROUNDS = 4
BOMB = "def handle(event, context):\n    kept = b'x' * (200 << 20)\n    return str(len(kept))\n"
SPINS = (
    "import os\n"
    "def spin():\n"
    "    while True:\n"
    "        pass\n"
    "def handle(event, context):\n"
    "    for _ in range(31):\n"
    "        if not os.fork():\n"
    "            spin()\n"
    "    spin()\n"
)
FORKS = "import os\ndef handle(event, context):\n    while True:\n        os.fork()\n"
PARTS = ("guardian", "supervisor", "edge", "node", "controller")
COLD_CALLS = 20


def test_functions_that_take_all_memory_at_once_take_neither_others_nor_the_worker_down(namespace: str) -> None:
    with PodPlatform(pod(namespace, "bombs", memory="500Mi")) as platform:
        names = [f"bomb{number}" for number in range(BOMBS)]
        for name in names:
            platform.deploy(name, BOMB)  # with the default limit, which is above the pod's
        platform.deploy("stays", HELLO)
        parts = {part: platform.pid(part) for part in PARTS}
        statuses = Counter[int]()
        with ThreadPoolExecutor(BOMBS) as pool, others(platform, "stays") as answers:
            for _ in range(ROUNDS):
                statuses.update(answer.status for answer in pool.map(lambda name: platform.invoke(name, "x"), names))
        assert set(answers) == {200}
        assert set(statuses) <= {200, 502, 503}
        assert {part: platform.pid(part) for part in PARTS} == parts
        assert platform.restarts() == 0
        ends = "".join(map(platform.function_log, names)).count("out of memory: ")
        kills = kernel_kills(platform)
        print(f"{ends} ends, of which the kernel made {kills}; {dict(statuses)}")
        assert kills <= ends / 10


@contextmanager
def others(platform: PodPlatform, name: str) -> Iterator[Counter[int]]:
    """Call a function all the time; count the statuses."""
    answers, stop = Counter[int](), threading.Event()

    def go_on() -> None:
        while not stop.is_set():
            answers[platform.invoke(name).status] += 1

    with ThreadPoolExecutor(1) as pool:
        going = pool.submit(go_on)
        try:
            yield answers
        finally:
            stop.set()
            going.result()


def kernel_kills(platform: PodPlatform) -> int:
    """How many processes of the pod the kernel has killed for lack of memory."""
    folder = "/sys/fs/cgroup"
    text = platform.run(
        "sh", "-c", f"cat {folder}/memory/memory.oom_control {folder}/memory.events 2> /dev/null || true"
    )
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("oom_kill "))


@pytest.mark.parametrize("cpus", ["", "1"], ids=["no limit of cpu", "one cpu"])
def test_a_function_that_spins_gets_the_lowest_priority_and_others_wake(namespace: str, cpus: str) -> None:
    """How fast they wake: bench/kubernetes_neighbours.py."""
    manifest = pod(namespace, f"spins-{cpus or 'none'}")
    if cpus:
        manifest["spec"]["containers"][0]["resources"]["limits"]["cpu"] = cpus
    with PodPlatform(manifest) as platform:
        platform.deploy("other", HELLO)
        platform.deploy("attacks", SPINS)
        attack = threading.Thread(target=attacked(platform), daemon=True)
        attack.start()
        platform.until(lambda: "lowest priority" in platform.log(), "the platform to find out")
        for _ in range(COLD_CALLS):
            platform.sleep("other")
            answer = platform.invoke("other")
            assert (answer.status, answer.cold) == (200, True), answer.text
        assert platform.restarts() == 0


def test_a_fork_bomb_ends_at_the_limit_and_others_wake(namespace: str) -> None:
    """How fast they wake: bench/kubernetes_neighbours.py."""
    with PodPlatform(pod(namespace, "forks")) as platform:
        platform.deploy("other", HELLO)
        platform.deploy("attacks", FORKS)
        parts = {part: platform.pid(part) for part in PARTS}
        threading.Thread(target=attacked(platform), daemon=True).start()
        for _ in range(COLD_CALLS):
            platform.sleep("other")
            answer = platform.invoke("other")
            assert (answer.status, answer.cold) == (200, True), answer.text
        platform.until(lambda: "more than 512 processes" in platform.function_log("attacks"), "the end of the bomb")
        assert {part: platform.pid(part) for part in PARTS} == parts
        assert platform.restarts() == 0


def attacked(platform: PodPlatform) -> Callable[[], None]:
    def call() -> None:
        with suppress(OSError):
            platform.invoke("attacks", "x", timeout=60)

    return call
