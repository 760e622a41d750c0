"""A platform in a pod has the pod's memory, not the machine's, and drains before the pod ends."""

from __future__ import annotations

import http.client
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from support.gateway import HELLO
from support.pods import PodPlatform, pod, until_gone

pytestmark = pytest.mark.slow

TAKES = (
    "import time\n"
    "def handle(event, context):\n"
    "    size = int(event.body or b'0')\n"
    "    kept = bytearray(size * 2**20)\n"
    "    for at in range(0, len(kept), 4096):\n"
    "        kept[at] = 1\n"
    "    return str(size)\n"
)
CLIENTS = 8


def test_a_function_that_takes_too_much_memory_ends_alone(namespace: str) -> None:
    with PodPlatform(pod(namespace, "memory", memory="500Mi")) as platform:
        platform.deploy("stays", HELLO)
        platform.deploy("takes", TAKES, limits={"memory": "100Mi"})
        assert platform.invoke("takes", "20").text == "20"
        told = []
        stop = threading.Event()

        def go_on() -> None:
            while not stop.is_set():
                told.append(platform.invoke("stays").text)

        with ThreadPoolExecutor(1) as pool:
            other = pool.submit(go_on)
            too_much = [platform.invoke("takes", size) for size in ("200", "800", "200", "800")]
            stop.set()
            other.result()
        assert all(answer.status >= 500 for answer in too_much), [answer.text for answer in too_much]
        assert set(told) == {"hello"}
        assert platform.invoke("takes", "20").text == "20"
        assert platform.restarts() == 0


def test_the_number_of_spares_is_what_the_pod_has_room_for(namespace: str) -> None:
    with PodPlatform(pod(namespace, "spares", memory="500Mi")) as platform:
        assert platform.platform_status()["spares"]["most"] <= 10, "a tenth of 500 MiB, 5 MiB each"


def test_no_call_fails_when_the_pod_is_deleted(namespace: str) -> None:
    with PodPlatform(pod(namespace, "drains", "--drain", "2s")) as platform:
        platform.deploy("stays", HELLO)
        assert platform.invoke("stays").status == 200
        outcomes, away = Counter[str](), threading.Event()
        with ThreadPoolExecutor(CLIENTS + 1) as pool:
            clients = [pool.submit(calls, platform, outcomes, number % 2 == 0, away) for number in range(CLIENTS)]
            deleting = pool.submit(platform.delete)
            platform.until(lambda: platform.call("GET", "/healthz").status == 404, "the platform to drain")
            before = outcomes.total()
            time.sleep(1)  # load balancers hear of it late
            away.set()
            for client in clients:
                client.result()
            deleting.result()
        until_gone(platform)
        assert set(outcomes) == {"200"}, outcomes
        assert outcomes.total() > before, "calls went on after the first 404"


def calls(platform: PodPlatform, outcomes: Counter[str], post: bool, away: threading.Event) -> None:
    """Call, on kept connections, until the load balancer has turned away."""
    while not away.is_set():
        connection = http.client.HTTPConnection(platform.host, platform.port, timeout=20)
        try:
            while not away.is_set():
                connection.request("POST" if post else "GET", "/function/stays", b"x" if post else None)
                answer = connection.getresponse()
                answer.read()
                outcomes[str(answer.status)] += 1
                if answer.will_close:
                    break
        except (OSError, http.client.HTTPException) as error:
            outcomes[type(error).__name__] += 1
        finally:
            connection.close()
