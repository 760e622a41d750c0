"""SIGTERM to a platform that drains: no call fails, and it ends once it has none left."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from rescoldo.edge.admin import AdminSocket
from rescoldo.edge.draining import has_calls
from rescoldo.supervisor.parts import EDGE_GRACE
from rescoldo.supervisor.place import lock_file
from support.balancer import Balancer
from support.gateway import HELLO, TOKEN
from support.live import Live, alive

pytestmark = pytest.mark.slow

SLOW = "import time\ndef handle(event, context):\n    time.sleep(float(event.query['seconds']))\n    return 'done'\n"
DRAIN = 60.0  # longer than a test: what ends a platform earlier is what the test does
SLOW_START = "import time\ntime.sleep(2)\n" + HELLO


@contextmanager
def draining_platform(drain: float, **settings: object) -> Iterator[Live]:
    """A platform that drains for `drain` seconds. Whatever the test does, it is stopped by two signals at the end."""
    live = Live(drain=drain, **settings)
    try:
        live.start()
        yield live
    finally:
        if live.process is not None and live.process.poll() is None:
            terminate(live)
            terminate(live)
        live.close()


def terminate(live: Live) -> None:
    """Send SIGTERM; return when the platform drains, if it has not ended by then."""
    assert live.process is not None
    live.process.send_signal(signal.SIGTERM)
    if live.process.poll() is None:
        live.until(lambda: ended(live) or drains(live), "the drain")


def ended(live: Live) -> bool:
    assert live.process is not None
    return live.process.poll() is not None


def health(live: Live) -> int:
    return live.call("GET", "/healthz").status


def in_flight(live: Live) -> bool:
    return asyncio.run(has_calls(AdminSocket(live.settings.admin_socket)))


def drains(live: Live) -> bool:
    try:
        return health(live) == 404
    except OSError:
        return False


def metrics_health(live: Live) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(live.settings.metrics, timeout=10)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse()
    finally:
        connection.close()


class Clients:
    """Calls functions through a port without end, GET and POST, over new and over kept connections."""

    def __init__(self, port: int, *names: str) -> None:
        self._port = port
        self._stop = threading.Event()
        self.results: Counter[str] = Counter()
        kinds = [(method, kept) for method in ("GET", "POST") for kept in (False, True)]
        self._threads = [
            threading.Thread(target=self._run, args=(name, method, kept)) for name in names for method, kept in kinds
        ]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, name: str, method: str, kept: bool) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        while not self._stop.is_set():
            try:
                connection.request(method, f"/function/{name}", b"body" if method == "POST" else None)
                response = connection.getresponse()
                response.read()
                self.results[str(response.status)] += 1
            except (OSError, http.client.HTTPException) as error:
                self.results[f"{method} {type(error).__name__}"] += 1
                connection.close()
            if not kept:
                connection.close()
        connection.close()

    @property
    def failures(self) -> dict[str, int]:
        return {result: count for result, count in self.results.items() if result != "200"}


@pytest.mark.timeout(300)
def test_no_call_fails_when_a_platform_behind_a_balancer_is_drained_and_ended() -> None:
    names = ("a", "b", "c", "d")
    with draining_platform(1.0) as drained, draining_platform(1.0) as other:
        for live in (drained, other):
            live.deploy(names[0], TOKEN, image="token:test")
            for name in names[1:]:
                live.deploy(name, image="token:test")
        with (
            Balancer(drained.settings.gateway, other.settings.gateway) as balancer,
            Clients(balancer.port, *names) as load,
        ):
            for _ in range(10):
                drained.until(lambda: sum(map(drained.invocations, names)) > 50, "calls at the platform")
                assert drained.stop() == 0
                assert load.failures == {}
                drained.start()
    assert load.failures == {}


def test_while_it_drains_a_platform_says_so_and_serves_on() -> None:
    with draining_platform(DRAIN) as live:
        live.deploy("warm", TOKEN)
        live.deploy("cold", HELLO)
        before = live.invoke("warm").text
        kept = live.connection(10)
        kept.request("GET", "/function/warm")
        assert kept.getresponse().read().decode() == before
        terminate(live)
        assert (health(live), metrics_health(live).status) == (404, 404)
        assert metrics_health(live).headers["connection"] == "close"
        kept.request("GET", "/function/warm")
        response = kept.getresponse()
        assert (response.status, response.read().decode(), response.headers["connection"]) == (200, before, "close")
        answer = live.invoke("cold")
        assert (answer.status, answer.cold, answer.headers["connection"]) == (200, True, "close")
        assert json.loads(live.system("GET", "/status").text)["state"] == "draining"
        live.deploy("later", HELLO)
        assert live.invoke("later").status == 200
        assert not ended(live)


def test_a_platform_that_does_not_drain_says_nothing_about_it() -> None:
    with Live() as live:
        assert "state" not in json.loads(live.system("GET", "/status").text)
        assert "connection" not in live.call("GET", "/healthz").headers


def test_a_call_longer_than_the_edges_grace_ends_before_the_platform_does() -> None:
    seconds = EDGE_GRACE + 2
    with draining_platform(0.1, drain_timeout=60.0) as live, ThreadPoolExecutor() as pool:
        live.deploy("slow", SLOW)
        live.invoke("slow?seconds=0")
        call = pool.submit(live.invoke, f"slow?seconds={seconds}")
        live.until(lambda: in_flight(live), "the call")
        assert live.stop() == 0
        assert (call.result().status, call.result().text) == (200, "done")


def test_a_held_call_is_woken_and_answered_before_the_platform_ends() -> None:
    with draining_platform(0.1, drain_timeout=60.0) as live, ThreadPoolExecutor() as pool:
        live.deploy("cold", SLOW_START)
        call = pool.submit(live.invoke, "cold")
        live.until(lambda: live.instances(), "the start to begin")
        assert live.stop() == 0
        assert (call.result().status, call.result().text) == (200, "hello")


def test_a_call_that_takes_longer_than_the_timeout_is_cut() -> None:
    with draining_platform(0.1, drain_timeout=0.5) as live, ThreadPoolExecutor() as pool:
        live.deploy("slow", SLOW)
        live.invoke("slow?seconds=0")
        call = pool.submit(live.invoke, "slow?seconds=25")
        live.until(lambda: in_flight(live), "the call")
        begin = time.monotonic()
        assert live.stop() == 0
        assert time.monotonic() - begin < 20
        with pytest.raises((OSError, http.client.HTTPException)):  # no response: the edge was killed
            call.result()


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_the_drain(second: signal.Signals) -> None:
    with draining_platform(DRAIN) as live:
        terminate(live)
        assert live.process is not None
        live.process.send_signal(second)
        assert live.process.wait(20) == 0


@pytest.mark.parametrize("part", ["edge", "supervisor", "guardian", "controller"])
def test_a_platform_goes_on_draining_when_a_part_is_killed(part: str) -> None:
    with draining_platform(DRAIN) as live:
        live.deploy("cold", HELLO)
        terminate(live)
        killed = live.kill(part)
        live.until(lambda: live.pid(part) != killed, f"a new {part}")
        live.until(lambda: drains(live), "the drain")
        assert live.invoke("cold").status == 200
        assert health(live) == 404
        stopper = int(lock_file(live.settings).read_text())  # another guardian, if the first was killed
        os.kill(stopper, signal.SIGTERM)
        live.until(lambda: not alive(stopper), "the end", 20)


def test_a_supervisor_that_takes_over_keeps_the_drains_end() -> None:
    with draining_platform(3.0) as live:
        begin = time.monotonic()
        terminate(live)
        live.kill("supervisor")
        assert live.process is not None
        assert live.process.wait(20) == 0
        assert time.monotonic() - begin < 10


def test_a_reload_of_the_edge_keeps_the_drain() -> None:
    with draining_platform(DRAIN) as live:
        terminate(live)
        before = live.pid("edge")
        os.kill(live.pid("supervisor"), signal.SIGHUP)
        live.until(lambda: live.pid("edge") != before, "another edge")
        statuses = {health(live) for _ in range(50)}
        assert statuses == {404}


def test_without_draining_a_platform_ends_at_once() -> None:
    with Live() as live:
        begin = time.monotonic()
        assert live.stop() == 0
        assert time.monotonic() - begin < EDGE_GRACE
