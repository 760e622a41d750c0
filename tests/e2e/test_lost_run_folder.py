"""A running platform loses its run folder or a part of it: it restores the folder and leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from test_kill import Load, deploy_awake
from test_supervisor_killed import kill_both

from rescoldo.supervisor.start import stop
from support.leftovers import left_of, no_leftovers, uids_of
from support.live import Live, alive
from support.unprivileged import UnprivilegedLive, interpreter, readable_library

pytestmark = pytest.mark.slow

PARTS = ("edge", "controller", "node")


@pytest.fixture
def own_platform() -> Iterator[Live]:
    with Live(probe_timeout=2.0) as live, no_leftovers(live):
        yield live


def remove(live: Live, *names: str) -> None:
    for path in [live.settings.run_path / name for name in names] or live.settings.run_path.iterdir():
        shutil.rmtree(path, ignore_errors=True)
        path.unlink(missing_ok=True) if not path.is_dir() else None
    if not names:
        shutil.rmtree(live.settings.run_path, ignore_errors=True)


def is_whole(live: Live) -> bool:
    """Return whether every file of the run folder exists and the processes that it names run."""
    try:
        there = all(alive(live.pid(name)) for name in (*PARTS, "guardian", "supervisor"))
        files = ("settings.json", "supervisor.pid", "s/wake.sock", "s/api.sock", "s/log.sock", "node.sock",
                 "edge/admin.sock", "i", "n", "t", "u")
        return there and all((live.settings.run_path / name).exists() for name in files) and live.answers()
    except (OSError, KeyError, ValueError):
        return False


def instances(live: Live, *names: str) -> list[int]:
    return [pid for name in names for pid in live.instance_pids(name)]


def serves(live: Live, name: str) -> bool:
    try:
        return live.invoke(name).status == 200
    except OSError:
        return False


def test_a_platform_restores_its_run_folder_and_replaces_every_instance(own_platform: Live) -> None:
    deploy_awake(own_platform, "a", "b")
    before = instances(own_platform, "a", "b")
    mode = own_platform.settings.run_path.stat().st_mode
    with Load(own_platform, "a", "b") as load:
        remove(own_platform)
        own_platform.until(lambda: is_whole(own_platform), "the run folder to be whole")
        own_platform.until(lambda: serves(own_platform, "a") and serves(own_platform, "b"), "the functions to serve")
        own_platform.until(lambda: not any(map(alive, before)), "the instances without sockets to end")
        failed = load.results.total() - load.results["200"]
        load.more(100)
    assert load.results.total() - load.results["200"] == failed, load.results
    assert own_platform.settings.run_path.stat().st_mode == mode
    assert own_platform.replicas("a") == own_platform.replicas("b") == 1
    # each part ended once, and the supervisor killed none for a failed health check
    log = own_platform.log()
    assert [log.count(f"{name} ended") for name in ("controller", "node")] == [1, 1]
    assert "did not answer" not in log


@pytest.mark.parametrize("names", [
    ("s",), ("node.sock",), ("i",), ("n",), ("edge",), ("t", "u"), ("settings.json", "supervisor.pid", "children.json"),
    ("cgroups.json",),
], ids="-".join)  # fmt: skip
def test_a_removed_part_of_the_run_folder_is_restored(own_platform: Live, names: tuple[str, ...]) -> None:
    deploy_awake(own_platform, "a")
    before = instances(own_platform, "a")
    had = {path.name for path in own_platform.settings.run_path.iterdir()}
    remove(own_platform, *names)
    own_platform.until(
        lambda: is_whole(own_platform) and had <= {path.name for path in own_platform.settings.run_path.iterdir()},
        "the run folder to be whole",
    )
    own_platform.until(lambda: serves(own_platform, "a"), "the function to serve")
    if "i" in names:
        own_platform.until(lambda: not any(map(alive, before)), "the instance without a socket to end")
    else:
        own_platform.until(lambda: instances(own_platform, "a") == before, "the note to be restored")
        assert alive(before[0]), "the instance ended although it could serve"


def test_removed_notes_are_restored_for_the_next_node(own_platform: Live) -> None:
    deploy_awake(own_platform, "a")
    own_platform.deploy("says", "def handle(event, context):\n    print('x' * 4000)\n    return 'said'\n")
    assert own_platform.invoke("says").text == "said"
    before = instances(own_platform, "a", "says")
    remove(own_platform, "n")
    own_platform.until(lambda: instances(own_platform, "a", "says") == before, "the notes to be written again")
    killed = own_platform.kill("node")
    own_platform.until(lambda: own_platform.pid("node") != killed, "another node")
    own_platform.until(lambda: instances(own_platform, "a", "says") == before, "the next node to adopt them")
    # more than a pipe holds: the new node reads the output
    assert {own_platform.invoke("says", timeout=10).text for _ in range(40)} == {"said"}


def test_a_supervisor_without_a_run_folder_restores_it(own_platform: Live) -> None:
    deploy_awake(own_platform, "a")
    before = instances(own_platform, "a")
    supervisor = own_platform.pid("supervisor")
    remove(own_platform)
    os.kill(supervisor, signal.SIGKILL)
    own_platform.until(lambda: is_whole(own_platform) and serves(own_platform, "a"), "the platform to be whole")
    own_platform.until(lambda: not any(map(alive, before)), "the instances without sockets to end")


def test_instances_without_notes_and_node_are_ended(own_platform: Live) -> None:
    deploy_awake(own_platform, "a")
    before, node = instances(own_platform, "a"), own_platform.pid("node")
    os.kill(node, signal.SIGSTOP)  # so that it does not restore its part first
    remove(own_platform)
    os.kill(node, signal.SIGKILL)
    own_platform.until(lambda: is_whole(own_platform) and serves(own_platform, "a"), "the platform to be whole")
    own_platform.until(lambda: not any(map(alive, before)), "the unknown instance to end")


@pytest.mark.parametrize("end", ["down", "up"])
def test_down_and_up_find_unsupervised_processes_without_the_run_folder(own_platform: Live, end: str) -> None:
    deploy_awake(own_platform, "a")
    left = [*instances(own_platform, "a"), *map(own_platform.pid, PARTS)]
    uids = uids_of(own_platform)
    kill_both(own_platform)
    remove(own_platform)
    if end == "down":
        assert stop(own_platform.settings)
        assert not any(map(alive, left))
        assert not {line for line in left_of(own_platform, uids) if not line.startswith(("folder", "mount"))}
    else:
        own_platform.start()
        own_platform.until(lambda: not any(map(alive, left)), "the leftover processes to end")
        assert own_platform.invoke("a").status == 200


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0 or interpreter() is None, reason="needs root, to become another user")
def test_an_unprivileged_platform_leaves_no_orphan_either() -> None:
    python = interpreter()
    assert python is not None
    with readable_library() as library:
        live = UnprivilegedLive(library, python, probe_timeout=2.0)
        folder = Path(live.settings.run)
        live.settings = replace(live.settings, run=str(folder / "run"))  # the user may make this folder again
        break_and_mend(live)
    folder.rmdir()


def break_and_mend(live: Live) -> None:
    with live, no_leftovers(live):
        deploy_awake(live, "a")
        before, node = instances(live, "a"), live.pid("node")
        os.kill(node, signal.SIGSTOP)
        remove(live)
        os.kill(node, signal.SIGKILL)
        live.until(lambda: is_whole(live) and serves(live, "a"), "the platform to be whole")
        live.until(lambda: not any(map(alive, before)), "the unknown instance to end")
        left = [*instances(live, "a"), *map(live.pid, PARTS)]
        kill_both(live)
        remove(live)
        live.start()
        live.until(lambda: not any(map(alive, left)), "the leftover processes to end")
        assert live.invoke("a").status == 200
