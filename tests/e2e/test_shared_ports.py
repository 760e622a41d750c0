"""Programs at TCP ports where all instances share one address: without root, and as root without the network fence."""

from __future__ import annotations

import json
import os
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.gateway import Answer
from support.live import SOURCE, Live, alive
from support.ports import free_ports
from support.programs import leave_the_port, write_server
from support.unprivileged import UnprivilegedLive, interpreter, readable_library

pytestmark = [
    pytest.mark.slow,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become other users"),
    pytest.mark.skipif(not shutil.which("setpriv"), reason="needs setpriv"),
]

LINGER = "0.7"  # seconds that a program runs after SIGTERM


# A platform that can open no fence. Its instances have uids that the fences of other platforms on this
# machine do not know.
UNFENCED = """
import errno, os
from rescoldo.model import ids
ids.INSTANCE_UIDS = range(0x7800_0000, 0x7800_0000 + 10_000)
from rescoldo.isolation import netfence
def refuse(*_):
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))
netfence.Fence.open = refuse
"""


class UnfencedLive(Live):
    """A platform of root without the network fence."""

    def environment(self) -> dict[str, str]:
        (self.folder / "sitecustomize.py").write_text(UNFENCED)
        return {**super().environment(), "PYTHONPATH": f"{self.folder}:{SOURCE}"}


@pytest.fixture(scope="module", params=["unprivileged", "full without the fence"])
def shared(request: pytest.FixtureRequest) -> Iterator[Live]:
    if request.param != "unprivileged":
        with UnfencedLive() as live:
            yield live
        return
    python = interpreter()
    if python is None:
        pytest.skip("this Python is in a folder that only root may enter")
    with readable_library() as library, UnprivilegedLive(library, python) as live:
        yield live


@pytest.fixture
def server(tmp_path: Path) -> Path:
    return write_server(tmp_path / "program").parent


@pytest.fixture
def port() -> int:
    return free_ports(1)[0]


def deploy(live: Live, name: str, server: Path, port: int, **spec: Any) -> None:
    env = {"TERM_SECONDS": LINGER, **spec.pop("envVars", {})}
    live.deploy_program(name, server, "./server", f"http://127.0.0.1:{port}", envVars=env, **spec)


def look(live: Live, name: str, path: str = "") -> dict[str, Any]:
    answer = live.call("GET", f"/function/{name}{path}")
    assert answer.status == 200, f"{answer.text}\n{live.log()[-2000:]}"
    return dict(json.loads(answer.text))


def test_status_shows_shared_ports(shared: Live) -> None:
    assert json.loads(shared.system("GET", "/status").text)["isolation"]["ports"] == "shared"


def test_a_call_after_a_sleep_waits_for_the_port_of_the_previous_instance(
    shared: Live, server: Path, port: int
) -> None:
    deploy(shared, "sleeper", server, port)
    before = look(shared, "sleeper")["env"]["TMPDIR"], shared.instance_pids("sleeper")
    for _ in range(3):
        shared.sleep("sleeper")
        now = look(shared, "sleeper")["env"]["TMPDIR"], shared.instance_pids("sleeper")
        assert now != before
        before = now


def test_a_call_after_a_deployment_is_served_by_the_new_revision(shared: Live, server: Path, port: int) -> None:
    deploy(shared, "renewed", server, port)
    look(shared, "renewed")
    for mark in ("one", "two"):
        deploy(shared, "renewed", server, port, envVars={"MARK": mark})
        assert look(shared, "renewed")["env"]["MARK"] == mark


def test_a_call_after_a_changed_secret_is_served_by_a_new_instance(shared: Live, server: Path, port: int) -> None:
    secret = {"name": "key", "value": "first"}
    assert shared.system("POST", "/secrets", secret).status in (201, 202)
    deploy(shared, "secretive", server, port, secrets=["key"])
    before = shared.instance_pids("secretive"), look(shared, "secretive")["head"]
    assert shared.system("PUT", "/secrets", {**secret, "value": "second"}).status in (200, 202)
    look(shared, "secretive")
    assert shared.instance_pids("secretive") != before


def test_a_call_that_began_before_a_deployment_ends_and_the_next_one_waits_for_it(
    shared: Live, server: Path, port: int
) -> None:
    deploy(shared, "working", server, port)
    look(shared, "working")
    answers: list[Answer] = []
    long = threading.Thread(target=lambda: answers.append(shared.call("GET", "/function/working/slow/2")))
    long.start()
    shared.until(lambda: "slow" in shared.function_log("working"), "the call to begin")
    deploy(shared, "working", server, port, envVars={"MARK": "new"})
    assert look(shared, "working")["env"]["MARK"] == "new"
    long.join()
    assert [answer.status for answer in answers] == [200]



def test_a_child_that_keeps_the_port_after_a_crash_does_not_block_the_replacement(
    shared: Live, server: Path, port: int
) -> None:
    deploy(shared, "parent", server, port)
    for _ in range(2):
        look(shared, "parent")
        before = shared.instance_pids("parent")
        assert shared.call("POST", "/function/parent/leave").status == 502
        shared.until(lambda: shared.instance_pids("parent") != before, "the end to be noticed")  # noqa: B023
        look(shared, "parent")


def test_the_first_calls_after_a_crash_are_served(shared: Live, server: Path, port: int) -> None:
    deploy(shared, "crashing", server, port)
    look(shared, "crashing")
    (pid,) = shared.instance_pids("crashing")
    assert shared.call("POST", "/function/crashing/crash").status == 502
    shared.until(lambda: not alive(pid), "the end of the process")
    shared.until(lambda: shared.replicas("crashing") == 0 or shared.instance_pids("crashing") != [pid], "notice")
    for _ in range(5):
        look(shared, "crashing")


def test_a_function_gets_the_port_of_another_that_falls_asleep(shared: Live, server: Path, port: int) -> None:
    deploy(shared, "first", server, port)
    deploy(shared, "second", server, port)
    look(shared, "first")
    refused = shared.invoke("second")
    assert refused.status == 502
    assert f"another instance has port {port} (of first.openfaas-fn)" in refused.text
    assert refused.seconds < 5, "the refusal came late"
    shared.sleep("first")
    shared.until(lambda: "asked to end" in shared.function_log("first"), "the end to begin")
    assert shared.instance_pids("first"), "the instance has already ended"
    look(shared, "second")
    shared.sleep("second")


def test_a_port_of_another_process_is_refused_soon_and_used_once_it_is_free(
    shared: Live, server: Path, port: int
) -> None:
    deploy(shared, "stranded", server, port)
    with socket.create_server(("127.0.0.1", port)):
        refused = shared.invoke("stranded")
        assert refused.status == 502
        assert f"port {port} is taken by a process of this machine" in refused.text
        assert refused.seconds < 5
    shared.until(lambda: shared.invoke("stranded").status == 200, "a start without the other process")


def test_an_instance_that_keeps_its_port_is_named_after_the_ready_timeout(
    shared: Live, server: Path, port: int
) -> None:
    notes = {"rescoldo.dev/ready-timeout": "1s", "rescoldo.dev/grace": "4s"}
    deploy(shared, "clinging", server, port, annotations=notes, envVars={"TERM_SECONDS": "60"})
    look(shared, "clinging")
    shared.sleep("clinging")
    late = shared.invoke("clinging")
    assert late.status == 504
    assert f"the previous instance still has port {port} after 1 s" in late.text
    shared.until(lambda: shared.invoke("clinging").status == 200, "the kill after the grace")


def test_a_node_also_waits_for_the_port_of_an_adopted_instance(shared: Live, server: Path, port: int) -> None:
    deploy(shared, "adopted", server, port)
    look(shared, "adopted")
    (pid,) = shared.instance_pids("adopted")
    node = shared.kill("node")
    shared.until(lambda: shared.pid("node") != node and shared.system("GET", "/info").status == 200, "another node")
    shared.sleep("adopted")
    look(shared, "adopted")
    assert shared.instance_pids("adopted") != [pid]


def test_revisions_at_one_port_cannot_share_traffic(shared: Live, server: Path, port: int) -> None:
    deploy(shared, "split", server, port)
    deploy(shared, "split", server, port, envVars={"MARK": "new"})
    refused = shared.system("PUT", "/function/split/traffic", {"traffic": {"1": 50, "2": 50}})
    assert refused.status == 400
    assert "both are programs at the same TCP port" in refused.text
    assert look(shared, "split")["env"]["MARK"] == "new"


def test_a_program_that_closes_its_port_finishes_its_calls_and_is_replaced(
    shared: Live, server: Path, port: int
) -> None:
    leave_the_port(shared, server, "left-port", f"http://127.0.0.1:{port}")
