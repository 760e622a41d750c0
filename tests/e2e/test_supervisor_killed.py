"""Supervisor and guardian, killed and stopped: all else goes on, and each is replaced."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from test_kill import Load, deploy_awake

from rescoldo.isolation.level import level
from rescoldo.supervisor import start
from rescoldo.supervisor.start import stop
from support.gateway import HELLO, PATIENCE
from support.leftovers import cgroups, no_leftovers
from support.live import Live, alive

pytestmark = pytest.mark.slow

PARTS = ("edge", "controller", "node")


@pytest.fixture
def own_platform() -> Iterator[Live]:
    """A platform that notices hangs sooner than by default, which makes the tests shorter."""
    with Live(probe_timeout=2.0) as live, no_leftovers(live):
        yield live


def pids(live: Live) -> list[int]:
    return [live.pid(name) for name in PARTS]


def replaced(live: Live, name: str, old: int) -> None:
    live.until(lambda: live.pid(name) != old, f"another {name}")


def test_calls_and_parts_go_on_when_the_supervisor_is_killed(own_platform: Live) -> None:
    deploy_awake(own_platform, "a", "b")
    own_platform.deploy("asleep", image="token:test")
    before, instance = pids(own_platform), own_platform.invoke("a").text
    with Load(own_platform, "a", "b") as load:
        killed = own_platform.kill("supervisor")
        cold = own_platform.invoke("asleep")
        replaced(own_platform, "supervisor", killed)
        load.more(50)
    assert load.errors == {}
    assert (cold.status, cold.cold) == (200, True)
    assert pids(own_platform) == before
    assert own_platform.invoke("a").text == instance


@pytest.mark.parametrize("name", PARTS)
def test_a_new_supervisor_restarts_parts_that_the_old_one_started(own_platform: Live, name: str) -> None:
    deploy_awake(own_platform, "a")
    replaced(own_platform, "supervisor", own_platform.kill("supervisor"))
    replaced(own_platform, name, own_platform.kill(name))
    own_platform.until(own_platform.answers, "the platform to answer")
    assert own_platform.invoke("a").status == 200


def test_a_new_supervisor_goes_on_reading_its_childrens_output(own_platform: Live) -> None:
    replaced(own_platform, "supervisor", own_platform.kill("supervisor"))
    own_platform.kill("zygote")  # the node logs it
    own_platform.until(lambda: "node: node: WARNING: the zygote ended" in own_platform.log(), "the node's line")


def test_a_supervisor_is_replaced_each_time_it_is_killed(own_platform: Live) -> None:
    deploy_awake(own_platform, "a")
    before = pids(own_platform)
    with Load(own_platform, "a") as load:
        for _ in range(4):
            replaced(own_platform, "supervisor", own_platform.kill("supervisor"))
        load.more(20)
    assert load.errors == {}
    assert pids(own_platform) == before


def test_calls_and_parts_go_on_when_the_guardian_is_killed(own_platform: Live) -> None:
    deploy_awake(own_platform, "a", "b")
    before, supervisor = pids(own_platform), own_platform.pid("supervisor")
    with Load(own_platform, "a", "b") as load:
        killed = own_platform.kill("guardian")
        replaced(own_platform, "guardian", killed)
        load.more(50)
    assert load.errors == {}
    assert own_platform.pid("guardian") == supervisor, "the supervisor did not become the guardian"
    assert pids(own_platform) == before
    assert stop(own_platform.settings), "`stop` did not find the new guardian"
    assert not any(alive(pid) for pid in [*before, supervisor])


def test_guardian_and_supervisor_may_be_killed_in_turns(own_platform: Live) -> None:
    deploy_awake(own_platform, "a")
    before = pids(own_platform)
    with Load(own_platform, "a") as load:
        for name in ("guardian", "supervisor", "guardian", "guardian", "supervisor"):
            replaced(own_platform, name, own_platform.kill(name))
        load.more(20)
    assert load.errors == {}
    assert pids(own_platform) == before


def kill_both(live: Live) -> None:
    """Kill guardian and supervisor so close together that neither can start the other again."""
    first, second = live.pid("guardian"), live.pid("supervisor")
    os.kill(second, signal.SIGSTOP)
    os.kill(first, signal.SIGKILL)
    os.kill(second, signal.SIGKILL)
    assert live.process is not None
    live.process.wait(PATIENCE)


def test_without_guardian_and_supervisor_a_platform_runs_until_the_next_start_adopts_it(own_platform: Live) -> None:
    deploy_awake(own_platform, "a")
    before, instance = pids(own_platform), own_platform.invoke("a").text
    with Load(own_platform, "a") as load:
        kill_both(own_platform)
        load.more(50)
    assert load.errors == {}
    own_platform.start()
    assert own_platform.invoke("a").text == instance, "the new node did not adopt the instance"
    own_platform.until(lambda: not any(alive(pid) for pid in before), "the old processes to end")


def test_down_ends_a_platform_without_guardian_and_supervisor(own_platform: Live) -> None:
    deploy_awake(own_platform, "a")
    left = [*pids(own_platform), *own_platform.instance_pids("a")]
    kill_both(own_platform)
    assert stop(own_platform.settings)
    assert not any(alive(pid) for pid in left)
    assert not own_platform.settings.run_path.exists()
    assert not stop(own_platform.settings)


@pytest.mark.parametrize("stopped", [("supervisor",), ("guardian", "supervisor")])
def test_down_kills_a_platform_that_does_not_stop(
    own_platform: Live, stopped: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(start, "STOP_SECONDS", 0.5)
    deploy_awake(own_platform, "a")
    guardian, supervisor = own_platform.pid("guardian"), own_platform.pid("supervisor")
    left = [supervisor, *pids(own_platform), *own_platform.instance_pids("a")]
    for name in stopped:
        os.kill(own_platform.pid(name), signal.SIGSTOP)
    assert stop(own_platform.settings)
    assert f"process {guardian} did not end within 0.5 s; killing it" in caplog.text
    assert own_platform.process is not None
    assert own_platform.process.wait(PATIENCE) == -signal.SIGKILL
    assert not any(alive(pid) for pid in left)
    assert not own_platform.settings.run_path.exists()


def test_down_ends_instances_after_all_else_was_killed(own_platform: Live) -> None:
    deploy_awake(own_platform, "a")
    (instance,) = own_platform.instance_pids("a")
    kill_all(own_platform)
    assert alive(instance)
    assert stop(own_platform.settings)
    assert not alive(instance)


@pytest.mark.root
@pytest.mark.skipif(level() != "full", reason="needs root that may make cgroups")
def test_down_removes_the_sandboxes_of_spares_after_all_else_was_killed(own_platform: Live) -> None:
    def ours() -> list[str]:
        return [path for path in cgroups() if own_platform.settings.run_path.name in path]

    own_platform.until(lambda: any(file.is_dir() for path in ours() for file in Path(path).iterdir()), "a spare")
    kill_all(own_platform)
    assert stop(own_platform.settings)
    assert not ours()


def test_a_start_after_all_else_was_killed_serves_and_leaves_nothing(own_platform: Live) -> None:
    deploy_awake(own_platform, "a")
    kill_all(own_platform)
    own_platform.start()
    assert own_platform.invoke("a").status == 200


def kill_all(live: Live) -> None:
    """Kill all processes except the instances."""
    parts = pids(live)
    kill_both(live)
    for pid in parts:
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("name", ["supervisor", "guardian"])
def test_a_stopped_supervisor_or_guardian_is_replaced(own_platform: Live, name: str) -> None:
    deploy_awake(own_platform, "a")
    before = pids(own_platform)
    with Load(own_platform, "a") as load:
        old = own_platform.pid(name)
        os.kill(old, signal.SIGSTOP)
        replaced(own_platform, name, old)
        load.more(20)
    assert load.errors == {}
    assert pids(own_platform) == before


@pytest.mark.parametrize("name", PARTS)
def test_a_stopped_part_is_replaced_and_calls_go_on(own_platform: Live, name: str) -> None:
    own_platform.deploy("a", HELLO)
    old = own_platform.pid(name)
    os.kill(old, signal.SIGSTOP)
    replaced(own_platform, name, old)
    own_platform.until(own_platform.answers, "the platform to answer")
    assert own_platform.invoke("a").status == 200
    assert f"{name} did not answer" in own_platform.log()


def test_a_supervisor_continued_after_a_long_stop_kills_no_part(own_platform: Live) -> None:
    before, supervisor = pids(own_platform), own_platform.pid("supervisor")
    os.kill(own_platform.pid("guardian"), signal.SIGSTOP)  # otherwise it would replace the supervisor
    os.kill(supervisor, signal.SIGSTOP)
    time.sleep(6)  # longer than any timeout: nothing may happen
    os.kill(own_platform.pid("guardian"), signal.SIGCONT)
    os.kill(supervisor, signal.SIGCONT)
    time.sleep(2)
    assert pids(own_platform) == before
    assert own_platform.pid("supervisor") == supervisor
    assert "did not answer" not in own_platform.log()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_the_main_process_stops_the_platform_in_order(own_platform: Live, number: signal.Signals) -> None:
    deploy_awake(own_platform, "a")
    assert own_platform.process is not None
    own_platform.process.send_signal(number)
    assert own_platform.process.wait(PATIENCE) == 0
    assert "ended (" not in own_platform.log()


def test_the_successor_of_a_supervisor_killed_during_a_stop_completes_the_stop(own_platform: Live) -> None:
    code = "import time\ndef handle(event, context):\n    print('BEGUN')\n    time.sleep(2)\n    return 'done'\n"
    own_platform.deploy("slow", code)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(own_platform.invoke, "slow")
        own_platform.until(lambda: "BEGUN" in own_platform.function_log("slow"), "the function to be called")
        assert own_platform.process is not None
        own_platform.process.send_signal(signal.SIGTERM)
        own_platform.until(lambda: not _accepts(own_platform), "the edge to refuse connections")
        own_platform.kill("supervisor")
        assert call.result().text == "done"
        assert own_platform.process.wait(PATIENCE) == 0


@pytest.mark.parametrize("patience", [0.0, 0.05, 0.2])
def test_a_stop_ends_instances_of_a_node_killed_just_before(own_platform: Live, patience: float) -> None:
    deploy_awake(own_platform, "a")
    (instance,) = own_platform.instance_pids("a")
    own_platform.kill("node")
    time.sleep(patience)  # no wait for a condition: the next node is then at different points of its start
    assert own_platform.stop() == 0
    assert not alive(instance)


def _accepts(live: Live) -> bool:
    try:
        live.call("GET", "/healthz")
    except OSError:
        return False
    return True


def links(pid: int) -> int:
    """Return how many programs of the fence a process keeps attached."""
    return sum("link_type:\tcgroup" in _note_of(file) for file in Path(f"/proc/{pid}/fdinfo").iterdir())


def _note_of(descriptor: Path) -> str:
    try:
        return descriptor.read_text()
    except FileNotFoundError:  # the process closed it after it was listed
        return ""


@pytest.mark.root
@pytest.mark.skipif(level() != "full", reason="needs root that may make namespaces")
def test_the_fence_around_instances_ports_outlives_node_and_supervisor(own_platform: Live) -> None:
    put_up = links(own_platform.pid("supervisor"))
    assert put_up > 0
    assert links(own_platform.pid("node")) == put_up, "the fence would fall with guardian and supervisor"
    replaced(own_platform, "node", own_platform.kill("node"))
    assert links(own_platform.pid("supervisor")) == put_up
    replaced(own_platform, "supervisor", own_platform.kill("supervisor"))
    own_platform.until(lambda: links(own_platform.pid("supervisor")) == put_up, "the supervisor to hold the fence")
