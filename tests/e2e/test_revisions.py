"""New revisions under load: roll-outs, rollbacks, splits, and a controller that is killed meanwhile."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support.gateway import Answer
from support.live import Live

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

BROKEN = "def handle(event, context):\n    return 'broken'\nraise RuntimeError('broken at import')\n"
SLOW_START = "import time\ntime.sleep(3)\ndef handle(event, context):\n    return 'slow'\n"


def version(number: int, seconds: float = 0.0) -> str:
    return f"import time\ndef handle(event, context):\n    time.sleep({seconds})\n    return 'v{number}'\n"


@pytest.fixture(scope="module")
def platform() -> Iterator[Live]:
    with Live() as live:
        yield live


class Callers:
    """Threads that call a function until the end of the context."""

    def __init__(self, platform: Live, name: str, count: int = 6) -> None:
        self.answers: list[Answer] = []
        self._platform = platform
        self._name = name
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(count)]

    def __enter__(self) -> Callers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def more(self, count: int = 30) -> None:
        """Wait for `count` more answers."""
        goal = len(self.answers) + count
        self._platform.until(lambda: len(self.answers) >= goal, "more answers")

    def _run(self, number: int) -> None:
        while not self._stop.is_set():
            self.answers.append(self._platform.invoke(self._name, "body" if number % 2 else None))


def update(platform: Live, name: str, code: str, **spec: Any) -> Answer:
    platform.upload(f"{name}:test", code)
    return platform.system("PUT", "/functions", {"service": name, "image": f"{name}:test", **spec})


def revisions(platform: Live, name: str) -> list[dict[str, Any]]:
    return list(json.loads(platform.system("GET", f"/function/{name}/revisions").text))


def in_thread(work: Callable[[], Answer]) -> tuple[threading.Thread, list[Answer]]:
    answers: list[Answer] = []
    thread = threading.Thread(target=lambda: answers.append(work()))
    thread.start()
    return thread, answers


def test_no_call_fails_during_rollouts_one_of_them_broken(platform: Live) -> None:
    platform.deploy("load", version(1, 0.02))
    with Callers(platform, "load") as callers:
        callers.more()
        for number in (2, 3):
            assert update(platform, "load", version(number, 0.02)).status == 202
            assert platform.invoke("load").text == f"v{number}"
            callers.more()
        refused = update(platform, "load", BROKEN)
        assert refused.status == 400
        assert "revision 4 of load.openfaas-fn did not start and takes no traffic" in refused.text
        assert "revision 3 keeps serving" in refused.text and "broken at import" in refused.text
        callers.more()
        assert update(platform, "load", version(5, 0.02)).status == 202
        callers.more()
    assert {answer.status for answer in callers.answers} == {200}
    assert {answer.text for answer in callers.answers} == {"v1", "v2", "v3", "v5"}
    assert platform.invoke("load").text == "v5"
    assert [(one["revision"], one["state"]) for one in revisions(platform, "load")] == [
        (5, "serving"), (4, "failed"), (3, "kept"), (2, "kept"), (1, "kept"),
    ]
    platform.until(lambda: len(platform.instance_pids("load")) <= platform.replicas("load"), "old instances to end")


def test_a_new_revision_gets_as_many_instances_as_the_old_one(platform: Live) -> None:
    platform.deploy("wide", version(1))
    body = {"serviceName": "wide", "replicas": 3}
    assert platform.system("POST", "/scale-function/wide", body).status == 202
    platform.until(lambda: platform.replicas("wide") == 3, "three instances")
    assert update(platform, "wide", version(2)).status == 202
    assert platform.replicas("wide") == 3
    assert platform.invoke("wide").text == "v2"


def test_a_rollback_brings_back_the_previous_code(platform: Live) -> None:
    platform.deploy("back", version(1))
    assert update(platform, "back", version(2)).status == 202
    answer = platform.system("POST", "/function/back/rollback")
    assert (answer.status, json.loads(answer.text)) == (200, {"revision": 3})
    assert platform.invoke("back").text == "v1"
    first, third = revisions(platform, "back")[2], revisions(platform, "back")[0]
    assert first["digest"] == third["digest"]


def test_a_rollback_to_a_kept_revision_works_after_its_image_name_was_reused(platform: Live) -> None:
    platform.deploy("far", version(1))
    for number in (2, 3):
        assert update(platform, "far", version(number)).status == 202
    assert platform.system("POST", "/function/far/rollback", {"revision": 1}).status == 200
    platform.sleep("far")
    assert platform.invoke("far").text == "v1"
    refused = platform.system("POST", "/function/far/rollback", {"revision": 77})
    assert refused.status == 400 and "revision 77 of far.openfaas-fn is not kept" in refused.text


def test_split_traffic_survives_a_new_controller_and_a_reload_without_a_failed_call(platform: Live) -> None:
    platform.deploy("split", version(1, 0.01))
    assert update(platform, "split", version(2, 0.01)).status == 202
    with Callers(platform, "split") as callers:
        callers.more()
        assert platform.system("PUT", "/function/split/traffic", {"traffic": {"1": 50, "2": 50}}).status == 202
        begin = len(callers.answers)
        callers.more(100)
        controller = platform.kill("controller")
        platform.until(lambda: platform.pid("controller") != controller and platform.answers(), "another controller")
        callers.more(100)
        os.kill(platform.pid("supervisor"), signal.SIGHUP)  # reloads the edge
        callers.more(100)
        shares = {one["revision"]: one["traffic"] for one in revisions(platform, "split")}
        assert shares == {1: 50, 2: 50}
        assert json.loads(platform.system("GET", "/function/split").text)["traffic"] == {"1": 50, "2": 50}
        end = len(callers.answers)
        assert platform.system("PUT", "/function/split/traffic", {"traffic": {"2": 100}}).status == 202
        callers.more()
    assert {answer.status for answer in callers.answers} == {200}
    assert "traffic" not in json.loads(platform.system("GET", "/function/split").text)
    seen = Counter(answer.text for answer in callers.answers[begin:end])
    count = seen.total()
    assert abs(seen["v1"] - count / 2) < 5 * (count / 4) ** 0.5 + 12, "more than five sigma off its share"
    told = {(answer.text, answer.headers["x-rescoldo-revision"]) for answer in callers.answers[begin + 12 : end]}
    # the new edge held these calls before it knew the split: they went to the current revision
    assert told - {("v2", None)} == {("v1", "1"), ("v2", "2")}
    assert platform.invoke("split").text == "v2"
    assert platform.invocations("split") > count // 2  # a killed controller may lose a second of counts


def test_a_sleeping_revision_of_a_split_wakes(platform: Live) -> None:
    platform.deploy("naps", version(1))
    assert update(platform, "naps", version(2)).status == 202
    assert platform.system("PUT", "/function/naps/traffic", {"traffic": {"1": 100}}).status == 202
    platform.sleep("naps")
    answer = platform.invoke("naps")
    assert (answer.text, answer.cold, answer.headers["x-rescoldo-revision"]) == ("v1", True, "1")


def test_a_controller_killed_during_a_rollout_leaves_the_old_revision_and_no_stray(platform: Live) -> None:
    platform.deploy("killed", version(1, 0.01))
    platform.upload("killed:test", SLOW_START)
    body = {"service": "killed", "image": "killed:test"}

    def put() -> Answer:
        try:
            return platform.system("PUT", "/functions", body)
        except OSError:
            return Answer(0, None, b"", 0.0)  # type: ignore[arg-type]

    with Callers(platform, "killed") as callers:
        callers.more()
        thread, answers = in_thread(put)
        platform.until(lambda: len(platform.instance_pids("killed")) == 2, "the new revision to start")
        controller = platform.kill("controller")
        platform.until(lambda: platform.pid("controller") != controller and platform.answers(), "another controller")
        thread.join()
        callers.more()
    assert answers[0].status != 202
    assert {(answer.status, answer.text) for answer in callers.answers} == {(200, "v1")}
    assert [one["revision"] for one in revisions(platform, "killed")] == [1]
    platform.until(lambda: len(platform.instance_pids("killed")) == platform.replicas("killed"), "the stray to end")
    assert update(platform, "killed", version(2)).status == 202
    assert platform.invoke("killed").text == "v2"


def test_a_removal_ends_a_rollout(platform: Live) -> None:
    platform.deploy("cut", version(1))
    platform.upload("cut:test", SLOW_START)
    thread, answers = in_thread(lambda: platform.system("PUT", "/functions", {"service": "cut", "image": "cut:test"}))
    platform.until(lambda: platform.instance_pids("cut"), "the new revision to start")
    begin = time.monotonic()
    assert platform.system("DELETE", "/functions", {"functionName": "cut"}).status == 202
    assert time.monotonic() - begin < 2.5
    thread.join()
    assert answers[0].status == 409
    assert platform.invoke("cut").status == 404
    platform.until(lambda: not platform.instance_pids("cut"), "the instances to end")


def test_a_changed_secret_that_breaks_a_start_leaves_the_running_instance(platform: Live) -> None:
    code = (
        "from pathlib import Path\n"
        "value = Path('/var/openfaas/secrets/number').read_text()\n"
        "int(value)\n"
        "def handle(event, context):\n    return value\n"
    )
    assert platform.system("POST", "/secrets", {"name": "number", "value": "1"}).status in (200, 201, 202)
    platform.deploy("reads", code, secrets=["number"])
    assert platform.invoke("reads").text == "1"
    refused = platform.system("PUT", "/secrets", {"name": "number", "value": "letters"})
    assert refused.status == 400 and "reads.openfaas-fn does not start with it" in refused.text
    assert "letters" not in refused.text.partition("ValueError")[0]
    assert platform.invoke("reads").text == "1"
    assert platform.system("PUT", "/secrets", {"name": "number", "value": "2"}).status == 202
    assert platform.invoke("reads").text == "2"
    assert [one["revision"] for one in revisions(platform, "reads")] == [1]
