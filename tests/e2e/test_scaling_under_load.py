"""A whole platform under load scales from zero to several instances and back, and no call fails."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from rescoldo.model.scaling import ScalingDefaults
from support.gateway import HELLO
from support.live import Live

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

SLEEPER = (
    "import asyncio\n\nasync def handle(event, context):\n"
    "    await asyncio.sleep(0.2)\n    return 'slept'\n"
)


def callers(live: Live, count: int, until: threading.Event) -> list[int]:
    """Let each of `count` clients make one call after another until `until` is set; return the statuses."""

    def one() -> list[int]:
        statuses = []
        while not until.is_set():
            statuses.append(live.invoke("load").status)
        return statuses

    with ThreadPoolExecutor(count) as pool:
        return [status for found in [pool.submit(one) for _ in range(count)] for status in found.result()]


def test_a_function_under_load_scales_out_and_in_without_an_error(platform: Live) -> None:
    notes = {
        "rescoldo.dev/concurrency": "4", "rescoldo.dev/idle-window": "5m", "autoscaling.knative.dev/window": "6s"
    }
    platform.deploy("load", SLEEPER, annotations=notes)
    over, few = threading.Event(), threading.Event()
    with ThreadPoolExecutor(2) as pool:
        many = pool.submit(callers, platform, 16, over)  # 16 at once, 4 x 70 % each: 6
        steady = pool.submit(callers, platform, 1, few)
        platform.until(lambda: platform.replicas("load") >= 6, "six instances")
        over.set()
        platform.until(lambda: platform.replicas("load") == 1, "one instance")
        few.set()
    for statuses in (many.result(), steady.result()):
        assert len(statuses) > 5
        assert set(statuses) == {200}


def test_a_full_instance_with_a_concurrency_of_one_gets_another_at_once(platform: Live) -> None:
    code = SLEEPER.replace("0.2", "6")
    platform.deploy("single", code, annotations={"rescoldo.dev/concurrency": "1"})
    platform.invoke("single")
    begin = time.monotonic()
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda _: platform.invoke("single"), range(3)))
    assert [answer.status for answer in answers] == [200] * 3
    assert time.monotonic() - begin < 11.5, "a call waited for another one"


def test_an_unknown_type_of_scaling_is_refused(platform: Live) -> None:
    platform.upload("queue:test")
    spec = {"service": "queue", "image": "queue:test", "labels": {"com.openfaas.scale.type": "queue"}}
    answer = platform.system("POST", "/functions", spec)
    assert (answer.status, "use capacity, rps or cpu" in answer.text) == (400, True)


def test_openfaas_certifier_sees_a_second_replica_and_one_again() -> None:
    """At 10 requests a second there are 2 replicas within a minute; afterwards 1 in clearly less than a minute."""
    with Live(scaling=ScalingDefaults(openfaas_rule=True)) as live:
        live.deploy("rated", HELLO, labels={"com.openfaas.scale.min": "1", "com.openfaas.scale.max": "2"})
        live.until(lambda: live.replicas("rated") == 1, "the minimum")
        over = threading.Event()

        def calls() -> set[int]:
            statuses = set()
            while not over.wait(0.09):
                statuses.add(live.invoke("rated").status)
            return statuses

        with ThreadPoolExecutor(1) as pool:
            calling = pool.submit(calls)
            try:
                live.until(lambda: live.replicas("rated") == 2, "the second replica", 60)
            finally:
                over.set()
            assert calling.result() == {200}
        live.until(lambda: live.replicas("rated") == 1, "one replica again", 30)
