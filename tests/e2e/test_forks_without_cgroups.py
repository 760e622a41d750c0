"""Processes of instances as in an unprivileged pod: no cgroup counts them, so the node answers each fork."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from rescoldo.isolation.cgroups import MOST_PIDS
from support.contained import MIB, NEEDS, ContainedLive, Pod
from support.live import alive
from support.unprivileged import UID, interpreter, readable_library

pytestmark = NEEDS

LIMIT = 1000
# Each child forks in turn; each of them prints a sign.
BOMB = """
import os, time
def handle(event, context):
    while True:
        if not os.fork():
            os.write(1, b"#")
"""
# A child in a session of its own, whose parent ends at once, belongs to nobody that /proc shows.
DAEMONS = """
import os, time
def handle(event, context):
    while True:
        child = os.fork()
        if not child:
            os.setsid()
            if os.fork():
                os._exit(0)
            os.write(1, b"#")
            time.sleep(60)
            os._exit(0)
        os.waitpid(child, 0)
"""
LEAVES = """
import os, time
def handle(event, context):
    reader, writer = os.pipe()
    if not os.fork():
        os.setsid()
        if not os.fork():
            os.setsid()
            os.write(writer, str(os.getpid()).encode())
            time.sleep(600)
        os._exit(0)
    return os.read(reader, 20).decode()
"""
CHILD = """
import os, subprocess
def handle(event, context):
    return subprocess.run(["sh", "-c", "echo $PPID"], capture_output=True, text=True, check=True).stdout
"""


@pytest.fixture(scope="module")
def library() -> Iterator[Path]:
    with readable_library() as folder:
        yield folder


@pytest.fixture
def live(library: Path) -> Iterator[ContainedLive]:
    python = interpreter()
    assert python is not None
    pod = Pod(LIMIT * MIB)
    try:
        with ContainedLive(pod, library, python) as made:
            yield made
    finally:
        pod.remove()


def processes() -> int:
    """How many processes UID has."""
    found = 0
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                found += folder.stat().st_uid == UID or f"\nUid:\t{UID}" in (folder / "status").read_text()
            except OSError:
                continue
    return found


def born(live: ContainedLive) -> int:
    """How many processes a bomb has made."""
    return live.function_log("bomb").count("#")


@pytest.mark.parametrize("code", [BOMB, DAEMONS])
def test_a_fork_bomb_ends_at_the_limit_and_others_do_not_notice(live: ContainedLive, code: str) -> None:
    live.deploy("bomb", code)
    live.deploy("calm", CHILD)
    pid = int(live.call("GET", "/function/calm").text)
    before = processes()
    assert live.call("POST", "/function/bomb").status == 502
    assert int(live.call("GET", "/function/calm").text) == pid
    live.until(lambda: f"it had more than {MOST_PIDS} processes" in live.function_log("bomb"), "the reason")
    assert born(live) <= MOST_PIDS
    live.until(lambda: processes() <= before + 5, "the end of the bomb's processes")


def test_child_processes_are_possible_while_no_node_runs_and_after_its_restart(live: ContainedLive) -> None:
    live.deploy("calm", CHILD)
    pid = int(live.call("GET", "/function/calm").text)
    for _ in range(3):
        node = live.pid("node")
        os.kill(node, signal.SIGKILL)
        assert int(live.call("GET", "/function/calm").text) == pid
        live.until(lambda node=node: live.pid("node") not in (0, node), "another node")
        assert int(live.call("GET", "/function/calm").text) == pid
    assert alive(pid)


def test_a_process_that_left_the_session_ends_with_its_instance(live: ContainedLive) -> None:
    live.deploy("leaves", LEAVES)
    daemon = int(live.call("GET", "/function/leaves").text)
    assert alive(daemon)
    live.system("POST", "/scale-function/leaves", {"replicas": 0})
    live.until(lambda: not alive(daemon), "the end of the process")


def test_the_description_says_that_processes_are_limited(live: ContainedLive) -> None:
    assert json.loads(live.system("GET", "/status").text)["isolation"]["processes"] == "limited"
