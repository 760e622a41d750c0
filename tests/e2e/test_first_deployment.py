"""First deployments start an instance, and paused functions take no calls, on a whole platform."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from support.gateway import HELLO
from support.live import Live

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

BROKEN = "import nothing_of_that_name\n\n" + HELLO
SLOW = "import time\ntime.sleep(3)\n" + HELLO
PATIENT = """\
import time
def handle(event, context):
    time.sleep(float(event.query.get("s", 0)))
    return "done"
"""
WAIT = {"Prefer": "wait=60"}


def found(live: Live, name: str) -> dict[str, Any]:
    described: dict[str, Any] = json.loads(live.system("GET", f"/function/{name}?usage=1").text)
    return described


def state(live: Live, name: str) -> str:
    return str(found(live, name)["state"])


def first(live: Live, name: str, code: str, headers: dict[str, str] | None = None, **spec: Any) -> Any:
    live.upload(f"{name}:test", code)
    return live.system("POST", "/functions", {"service": name, "image": f"{name}:test", **spec}, headers)


def test_a_deployed_function_becomes_ready_without_a_call(platform: Live) -> None:
    """`faas-cli ready` polls until an instance is available."""
    assert first(platform, "fine", HELLO).status == 202
    platform.until(lambda: found(platform, "fine")["availableReplicas"] > 0, "the function to be ready")
    assert state(platform, "fine") == "ready"
    assert not platform.invoke("fine").cold


def test_a_handler_that_cannot_be_imported_is_failing_with_its_reason(platform: Live) -> None:
    assert first(platform, "broken", BROKEN).status == 202, "a client that does not wait got an error"
    platform.until(lambda: state(platform, "broken") == "failing", "the function to fail")
    assert "nothing_of_that_name" in found(platform, "broken")["reason"]
    called = platform.invoke("broken")
    assert (called.status, "nothing_of_that_name" in called.text) == (502, True)
    listed = json.loads(platform.system("GET", "/functions").text)
    assert next(one["state"] for one in listed if one["name"] == "broken") == "failing"
    platform.deploy("broken", HELLO, image="broken:fixed")
    assert platform.invoke("broken").status == 200


def test_a_client_that_waits_gets_the_result_of_the_first_start(platform: Live) -> None:
    good = first(platform, "waited", SLOW, WAIT)
    assert (good.status, good.headers["preference-applied"], good.seconds > 3) == (202, "wait", True)
    assert state(platform, "waited") == "ready"
    bad = first(platform, "waited-in-vain", BROKEN, WAIT)
    assert (bad.status, bad.headers["x-rescoldo-rollout"]) == (400, "failing")
    assert "nothing_of_that_name" in bad.text


@pytest.mark.parametrize("killed", ["controller", "node", "edge", "zygote"])
def test_the_result_of_a_first_start_is_right_though_a_part_is_killed(own_platform: Live, killed: str) -> None:
    live = own_platform
    assert first(live, "slow", SLOW).status == 202
    assert first(live, "bad", BROKEN).status == 202
    live.until(lambda: live.instance_pids("slow"), "the first start to be under way")
    live.kill(killed)
    live.until(lambda: live.answers() and state(live, "slow") in ("ready", "asleep"), "the first start to end")
    live.until(lambda: state(live, "bad") == "failing", "the other function to fail")
    assert live.invoke("slow").status == 200


def test_a_failure_and_a_pause_survive_a_restart_of_the_platform(own_platform: Live) -> None:
    live = own_platform
    live.deploy("calm", HELLO)
    assert live.invoke("calm").status == 200
    assert first(live, "bad", BROKEN, WAIT).status == 400
    assert live.system("POST", "/function/calm/pause").status == 202
    assert live.stop() == 0
    live.start()
    assert (state(live, "bad"), state(live, "calm")) == ("failing", "paused")
    assert "nothing_of_that_name" in found(live, "bad")["reason"]
    refused = live.invoke("calm", "x")
    assert (refused.status, refused.headers["x-rescoldo-reason"]) == (503, "paused")
    assert "paused" in refused.text
    assert live.system("POST", "/function/calm/resume").status == 202
    assert live.invoke("calm").status == 200


def test_a_pause_lets_calls_end_and_stops_the_instances(platform: Live) -> None:
    platform.deploy("busy", PATIENT, labels={"com.openfaas.scale.min": "2"})
    platform.until(lambda: platform.replicas("busy") == 2, "its minimum")
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(platform.invoke, "busy?s=2")
        time.sleep(0.5)  # the call is in its handler
        assert platform.system("POST", "/function/busy/pause").status == 202
        assert platform.invoke("busy").status == 503
        assert (call.result().status, call.result().text) == (200, "done")
    platform.until(lambda: not platform.instance_pids("busy"), "its instances to end")
    assert (found(platform, "busy")["replicas"], state(platform, "busy")) == (0, "paused")
    assert platform.system("POST", "/function/busy/resume").status == 202
    platform.until(lambda: platform.replicas("busy") == 2, "its minimum again")


def test_the_answer_reports_a_start_under_way_and_annotations_without_effect(platform: Live) -> None:
    annotations = {"topic": "x"}
    answer = first(platform, "late", SLOW, {"Prefer": "wait=1"}, annotations=annotations)
    assert (answer.status, answer.headers["x-rescoldo-rollout"]) == (202, "starting")
    [note] = found(platform, "late")["notes"]
    assert note.startswith("annotation topic: ")
    assert answer.text == f"note: {note}\n"
    platform.until(lambda: state(platform, "late") == "ready", "the function to start")
    again = first(platform, "late", SLOW, {"Prefer": "wait=1"}, annotations=annotations)
    assert (again.status, "x-rescoldo-rollout" in again.headers) == (202, False)
