"""The phases of cold calls in the answers and metrics of a whole platform."""

from __future__ import annotations

import json
import statistics
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from support.gateway import HELLO
from support.live import Live

pytestmark = pytest.mark.slow

SLOW = """
import time
time.sleep(0.05)
def handle(event, context):
    time.sleep(0.05)
    return 'late'
"""
PHASES = ["queue", "slot", "fork", "load", "listen", "first_byte"]


def cold_starts(platform: Live, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(platform.system("GET", f"/function/{name}?usage=1").text)["coldStarts"]
    return found


def metrics(platform: Live) -> dict[str, float]:
    with urllib.request.urlopen(f"http://{platform.settings.metrics}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


def wake(platform: Live, name: str, calls: int) -> tuple[dict[str, float], float]:
    """Make the cold call number `calls`; return the seconds of its phases and those that the client measured."""
    answer = platform.invoke(name)
    assert (answer.status, answer.cold) == (200, True), answer.text
    platform.until(lambda: cold_starts(platform, name)["calls"] == calls, "the edge to report the call")
    found = cold_starts(platform, name)["phases"]
    platform.sleep(name)
    return {phase: times["last"] for phase, times in found.items()}, answer.seconds


def test_the_phases_of_a_cold_call_add_up_to_its_time_at_the_edge(platform: Live) -> None:
    platform.deploy("phases", HELLO)
    labels = '{code="200",function_name="phases.openfaas-fn"}'
    counted, off, calls = 0.0, [], []
    for number in range(1, 9):
        took, seen = wake(platform, "phases", number)
        total = took.pop("total")
        assert list(took) == PHASES
        assert sum(took.values()) == pytest.approx(total, abs=1e-5)
        calls.append(took)
        assert total <= seen
        # HAProxy's own timer, in whole milliseconds; it also counts the time after the first byte
        before, counted = counted, metrics(platform)[f"gateway_functions_seconds_sum{labels}"]
        off.append(counted - before - total)
    for phase in PHASES:  # the edge's clock stands still within one turn of its event loop, so one call may report 0
        assert statistics.median(took[phase] for took in calls) > 0, f"{phase} overlaps another phase"
    assert min(off) > -0.002
    assert min(map(abs, off)) < 0.002, "no answer ended at once"


def test_the_time_of_import_and_handler_is_in_their_phases(platform: Live) -> None:
    platform.deploy("phases-slow", SLOW)
    took, _ = wake(platform, "phases-slow", 1)
    assert took["load"] >= 0.049
    assert took["first_byte"] >= 0.049
    assert took["total"] >= 0.098


def test_each_call_that_shares_a_wake_is_counted(platform: Live) -> None:
    before = metrics(platform)
    platform.deploy("phases-shared", SLOW)
    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(platform.invoke, ["phases-shared"] * 5))
    cold = sum(answer.cold for answer in answers)
    platform.until(lambda: cold_starts(platform, "phases-shared")["calls"] == cold, "the edge to report the calls")
    after = metrics(platform)
    assert after["rescoldo_wakes_total"] - before["rescoldo_wakes_total"] == 1
    count = 'rescoldo_cold_start_seconds_count{phase="load"}'
    assert after[count] - before[count] == cold


def test_failed_wakes_are_counted_by_reason(platform: Live) -> None:
    before = metrics(platform)
    platform.deploy("phases-broken", "def handle(event, context): ...\nraise ValueError('no')\n")
    assert platform.invoke("phases-broken").status == 502
    assert cold_starts(platform, "phases-broken") == {"calls": 0, "failed": {"crashed": 1}, "phases": {}}
    name = 'rescoldo_failed_wakes_total{reason="crashed"}'
    assert metrics(platform)[name] - before[name] == 1
