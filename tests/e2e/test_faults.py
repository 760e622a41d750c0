"""Faults around the platform. Warm calls of others go on, the error is clear, and all is well once the
cause is gone, without a restart."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import struct
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from test_bad_luck import as_root, fill, mounted, root

from matrix import report
from matrix.background import Calling, FaultResult, Stopwatch
from matrix.client import Call, Client
from matrix.load import Load
from matrix.world import ASLEEP, IMAGE, World, prepared
from support.gateway import PATIENCE, Answer
from support.live import Live

pytestmark = pytest.mark.slow

FEW_DESCRIPTORS = 400  # the edge needs 316 for its minimum of 100 connections
PARTS = ("guardian", "supervisor", "edge", "controller", "node", "zygote")

TALKS = "def handle(event, context):\n    print('x' * 200_000)\n    return 'talked'\n"
FLOOD = """
def handle(event, context):
    for _ in range(400_000):
        print("x" * 99)
    return "done"
"""
SLOW_START = "import time\ntime.sleep(1)\ndef handle(event, context):\n    return 'started'\n"


@pytest.fixture(scope="module")
def results() -> Iterator[list[FaultResult]]:
    """Collect the effects of the faults; write them after the last one."""
    found: list[FaultResult] = []
    yield found
    report.write_faults(found)


@pytest.fixture
def world() -> Iterator[World]:
    with prepared() as world:
        world.settle()
        yield world


# -- the edge is reloaded


async def reload_edge(world: World) -> None:
    """Reload the edge; return when the new process serves and the old one takes no more connections."""
    before = world.live.pid("edge")
    os.kill(world.live.pid("supervisor"), signal.SIGHUP)
    deadline = time.monotonic() + 20
    while world.live.pid("edge") == before or not await asyncio.to_thread(world.live.answers):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def test_no_call_fails_while_the_edge_is_reloaded(world: World, results: list[FaultResult]) -> None:
    with Calling(world) as calling:
        for _ in range(3):
            asyncio.run(reload_edge(world))
            assert world.live.invoke(ASLEEP).status == 200
            calling.more(100)
    assert calling.failures == []
    results.append(calling.result("the edge is reloaded three times", "nothing"))


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_call_held_during_a_reload_is_answered(world: World, method: str) -> None:
    world.live.deploy("slow-start", SLOW_START)

    async def reload_in_hold() -> list[Call]:
        load = Load(world)
        held = Call("slow-start", method, "/function/slow-start", "cold")
        hold = asyncio.create_task(load.once(held, b"x" * 100_000))
        while not world.live.instances():
            await asyncio.sleep(0.01)
        await reload_edge(world)
        await hold
        return load.calls

    (held,) = asyncio.run(reload_in_hold())
    assert (held.outcome, held.body) == ("200", b"started")
    world.live.until(lambda: world.live.invocations("slow-start") == 1, "the call to be counted")


def test_an_idle_connection_from_before_a_reload_is_served_or_closed_cleanly(world: World) -> None:
    async def over_a_reload() -> list[Call]:
        calls: list[Call] = []
        clients = [Client(world.live.port, calls, kept=True) for _ in range(20)]
        for _ in range(2):
            for client in clients:
                await client.send(Call("warm-0", "GET", "/function/warm-0", "warm"))
            await reload_edge(world)
        for client in clients:
            await client.send(Call("warm-0", "GET", "/function/warm-0", "warm"))
            client.close()
        return calls

    calls = asyncio.run(over_a_reload())
    assert [str(call) for call in calls if call.failed] == []


# -- the disk


@root
@as_root
def test_a_full_disk_refuses_deployments_and_nothing_else(results: list[FaultResult]) -> None:
    live = Live()
    live.settings.data_path.mkdir()
    with mounted(live.settings.data_path, "tmpfs", data="size=8m,mode=700"), live:
        world = World(live)
        world.prepare()
        live.deploy("talks", TALKS)
        world.settle()
        ballast = live.settings.data_path / "ballast"
        with Calling(world) as calling:
            with ballast.open("wb", 0) as file:
                fill(file)
            upload = live.system("POST", "/bundles?image=b:1", os.urandom(300_000))
            deploys = [deploy_large(live, f"large-{number}") for number in range(3)]
            cold = live.invoke(ASLEEP)
            talked = live.invoke("talks")
            calling.more(100)
            ballast.unlink()
            watch = Stopwatch()
            live.until(lambda: deploy_large(live, "large").status == 202, "deployments to work")
            well_after = watch.seconds
        assert calling.failures == []
        assert (cold.status, cold.cold) == (200, True)
        assert (talked.status, talked.text) == (200, "talked"), "the call failed because its lines could not be written"
        assert (upload.status, "no space left" in upload.text) == (500, True), upload.text
        full = [answer for answer in deploys if answer.status != 202]
        assert full, "the disk was not full"
        assert {(answer.status, "no space left" in answer.text) for answer in full} == {(500, True)}
        count_all(live, calling)
        live.stop()
        live.start()
        assert live.invocations("warm-1") == sum(1 for call in calling.load.calls if call.function == "warm-1") + 1
    results.append(calling.result("the disk is full", "uploads, deployments: 500; log lines are lost", well_after))


def deploy_large(live: Live, name: str) -> Answer:
    spec = {"service": name, "image": IMAGE, "envVars": {"X": "x" * 50_000}}
    return live.system("POST", "/functions", spec)


def count_all(live: Live, calling: Calling) -> None:
    """Wait until every call of a function is counted: those of the load, and the one that woke the function."""
    made = sum(1 for call in calling.load.calls if call.function == "warm-1") + 1
    live.until(lambda: live.invocations("warm-1") == made, f"{made} calls to be counted")


# -- the database


def test_a_database_locked_by_another_process_delays_deployments_and_nothing_else(
    world: World, results: list[FaultResult]
) -> None:
    live = world.live
    other = sqlite3.connect(live.settings.database, isolation_level=None)
    with Calling(world) as calling, ThreadPoolExecutor(1) as pool:
        other.execute("BEGIN IMMEDIATE")
        watch = Stopwatch()
        refused = live.system("PUT", "/functions", {"service": "deployed-0", "image": IMAGE})
        waited = watch.seconds
        cold = live.invoke(ASLEEP)
        patient = pool.submit(live.system, "PUT", "/functions", {"service": "deployed-0", "image": IMAGE})
        calling.more(50)
        other.execute("ROLLBACK")
        watch = Stopwatch()
        assert patient.result().status == 202
        well_after = watch.seconds
    other.close()
    assert calling.failures == []
    assert (cold.status, cold.cold) == (200, True)
    assert (refused.status, refused.headers["retry-after"]) == (503, "1")
    assert str(live.settings.database) in refused.text
    assert "another process holds it locked" in refused.text
    assert 4 < waited < 12
    count_all(live, calling)
    results.append(calling.result("another process locks the database", "deployments: 503 after 5 s", well_after))


def test_a_database_damaged_in_use_is_restored_from_memory(world: World, results: list[FaultResult]) -> None:
    live = world.live
    names = [f"stored-{number}" for number in range(150)]
    for name in names:  # more than SQLite caches
        live.deploy(name, image=IMAGE, envVars={"X": "x" * 40_000})
    with Calling(world) as calling:
        damage(live.settings.database)
        watch = Stopwatch()
        live.until(lambda: "restored it from memory" in live.log(), "the loss to be noticed")
        well_after = watch.seconds
        answers = [live.system("PUT", "/functions", {"service": name, "image": IMAGE}) for name in names[:30]]
        cold = live.invoke(ASLEEP)
        killed = live.kill("controller")  # the next controller reads the whole database
        live.until(lambda: live.pid("controller") != killed and live.answers(), "another controller")
        calling.more(100)
    assert calling.failures == []
    assert (cold.status, cold.cold) == (200, True)
    assert [answer.status for answer in answers] == [202] * 30
    there = {one["name"] for one in json.loads(live.system("GET", "/functions").text)}
    assert there >= set(names)
    results.append(calling.result("the database is damaged", "nothing, once it is written again", well_after))
    live.stop()
    damage(live.settings.database)
    live.spawn()
    assert live.process is not None
    assert live.process.wait(PATIENCE) == os.EX_CONFIG
    said = live.log()[-2000:]
    assert f"database {live.settings.database}: it is damaged: stop rescoldo, then restore a backup" in said


def damage(database: Path) -> None:
    """Overwrite the database except for its first page."""
    with database.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (database.stat().st_size - 4096))


# -- logs


def test_a_function_that_floods_its_log_does_not_slow_others(world: World, results: list[FaultResult]) -> None:
    live = world.live
    live.deploy("flood", FLOOD)
    with Calling(world) as calling:
        watch = Stopwatch()
        flood = live.invoke("flood")
        lasted = watch.seconds
        calling.more(50)
    assert flood.status == 200
    assert calling.failures == []
    assert lasted > 1
    live.until(lambda: "dropped" in live.function_log("flood"), "the log to report dropped lines")
    written = sum(file.stat().st_size for file in live.settings.logs.iterdir() if file.name.startswith("flood"))
    assert written <= 2 * 2**20
    results.append(calling.result("a function prints 40 MB", "its own lines over 256 KiB a second are dropped"))


# -- the clock


@pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")
def test_a_step_of_the_clock_harms_no_call(results: list[FaultResult]) -> None:
    live = Live()
    clock = live.folder / "clock"
    step(clock, 0)
    shim = live.folder / "clock.so"
    source = Path(report.__file__).with_name("clock.c")
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", shim, source], check=True)
    live.prefix = ["env", f"LD_PRELOAD={shim}", f"CLOCK_FILE={clock}"]
    with live:
        world = World(live)
        world.prepare()
        world.settle()
        with Calling(world) as calling:
            for offset in (3600, -3600, 86400, -86400, 0):
                step(clock, offset)
                assert abs(clock_of(live) - offset) < 60, "the platform does not see the step"
                live.until(lambda: ASLEEP not in world.awake(), "the function to sleep", 5)
                cold = live.invoke(ASLEEP)
                assert (cold.status, cold.cold) == (200, True), offset
                assert live.system("PUT", "/functions", {"service": "deployed-0", "image": IMAGE}).status == 202, offset
                calling.more(50)
        assert calling.failures == []
        count_all(live, calling)
    results.append(calling.result("the clock is stepped back and forth by an hour and by a day", "nothing"))


def step(clock: Path, seconds: int) -> None:
    """Set the platform's clock to the true time plus `seconds`."""
    with clock.open("r+b" if clock.exists() else "wb") as file:  # the same file, because it is mapped
        file.write(struct.pack("=q", seconds))


def clock_of(live: Live) -> float:
    """Return the seconds by which the edge's clock differs from ours."""
    return int(live.invoke("warm-0").headers["x-start-time"]) / 1e9 - time.time()


# -- descriptors


@root
@as_root
def test_a_platform_short_of_descriptors_names_the_limit_and_recovers(results: list[FaultResult]) -> None:
    live = Live()
    live.prefix = ["prlimit", f"--nofile={FEW_DESCRIPTORS}:{FEW_DESCRIPTORS}"]
    with live:
        world = World(live)
        world.prepare()
        world.settle()
        crowd = [f"crowd-{number}" for number in range(150)]
        for name in crowd:
            live.deploy(name, image=IMAGE, annotations={"rescoldo.dev/idle-window": "3s"})
        pids = {name: live.pid(name) for name in ("guardian", "supervisor", "edge", "controller", "node")}
        with Calling(world) as calling:
            with ThreadPoolExecutor(16) as pool:
                answers = list(pool.map(live.invoke, crowd))
            calling.more(50)
            live.until(lambda: not world.awake() & set(crowd), "the crowd to sleep", 60)
            watch = Stopwatch()
            assert live.invoke(crowd[-1]).status == 200
            assert live.system("PUT", "/functions", {"service": "deployed-0", "image": IMAGE}).status == 202
            well_after = watch.seconds
        assert calling.failures == []
        refused = [answer for answer in answers if answer.status != 200]
        assert len(refused) > 50, "there were enough descriptors"
        assert {(answer.status, answer.headers["retry-after"]) for answer in refused} == {(503, "1")}
        assert all("raise its limit of descriptors (ulimit -n)" in answer.text for answer in refused)
        assert pids == {name: live.pid(name) for name in pids}, "a process of the platform ended"
    results.append(calling.result("descriptors are used up (a limit of 400)", "further wakes: 503", well_after))


@root
@as_root
def test_connections_beyond_the_limit_wait_and_none_is_refused(results: list[FaultResult]) -> None:
    live = Live(max_connections=100)
    with live:
        world = World(live)
        world.prepare()
        world.settle()
        with Calling(world) as calling, ThreadPoolExecutor(1) as pool:
            idle = [socket.create_connection(("127.0.0.1", live.port)) for _ in range(300)]
            late = pool.submit(live.invoke, "warm-1")
            with pytest.raises(TimeoutError):
                late.result(1)
            for connection in idle:
                connection.close()
            watch = Stopwatch()
            assert late.result().status == 200
            assert live.invoke(ASLEEP).status == 200
            well_after = watch.seconds
        assert calling.failures == []
    results.append(calling.result("300 idle connections where 100 are allowed", "new connections wait", well_after))


# -- everything at once


def test_a_start_after_all_processes_were_killed_serves_the_deployed_functions(
    world: World, results: list[FaultResult]
) -> None:
    live = world.live
    live.until(lambda: live.invocations("warm-1") == 1, "the call to be counted")
    counted_and_written(live, "warm-1")
    for pid in (*(live.pid(name) for name in PARTS), *world.instances()):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert live.process is not None
    live.process.wait(PATIENCE)
    watch = Stopwatch()
    live.start()
    for name in ("warm-0", ASLEEP):
        answer = live.invoke(name)
        assert (answer.status, answer.text, answer.cold) == (200, "0", True)
    assert live.system("PUT", "/functions", {"service": "deployed-0", "image": IMAGE}).status == 202
    well_after = watch.seconds
    assert live.invocations("warm-1") == 1, "the count is lost"
    results.append(FaultResult("everything is killed, then started", "everything", 0, 0, 0.0, well_after))


def counted_and_written(live: Live, name: str) -> None:
    """Wait until a call is in the database, which happens about a second after it is counted."""

    def calls() -> int:
        with contextlib.closing(sqlite3.connect(live.settings.database)) as database:
            rows = database.execute("SELECT calls FROM invocation WHERE function LIKE ?", [f"{name}.%"])
            return sum(calls for (calls,) in rows)

    live.until(lambda: calls() == 1, "the count to be written")
