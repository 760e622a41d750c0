"""Bad luck: disks, ports and neighbours. The platform names the problem and goes on where it can."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest
from test_kill import Load

from rescoldo.model.errors import InvalidInput
from rescoldo.model.limits import Limits
from rescoldo.supervisor.start import start_background
from support.gateway import HELLO, PATIENCE, TOKEN
from support.live import Live
from support.ports import free_ports

pytestmark = pytest.mark.slow

IDENTITY = TOKEN.replace("return MINE", "return f'{MINE} {__import__(\"os\").getuid()}'")
SLOW = "import time\ndef handle(event, context):\n    time.sleep(1)\n    return 'done'\n"
EX_CONFIG = 78  # sysexits.h: starting again would not help
MS_RDONLY, MS_REMOUNT, MS_BIND, MNT_DETACH = 1, 32, 4096, 2
root = pytest.mark.root
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount")

_libc = ctypes.CDLL(None, use_errno=True)


@pytest.fixture
def idle() -> Iterator[Live]:
    """A platform that is not started yet."""
    live = Live()
    yield live
    live.close()


def refused(live: Live) -> str:
    """Start a platform that must not start; return its log."""
    live.spawn()
    assert live.process is not None
    status = live.process.wait(PATIENCE)
    log = live.log()
    assert status == EX_CONFIG, log
    assert "Traceback" not in log, log
    return log


@contextmanager
def mounted(target: Path, kind: str, flags: int = 0, data: str = "", source: str = "none") -> Iterator[None]:
    def mount(flags: int) -> None:
        if _libc.mount(source.encode(), str(target).encode(), kind.encode(), flags, data.encode()):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    mount(flags & ~MS_RDONLY)
    try:
        if flags & MS_RDONLY:  # a bind mount takes this flag only in a remount
            mount(flags | MS_REMOUNT)
        yield
    finally:
        _libc.umount2(str(target).encode(), MNT_DETACH)


# -- the data directory


def test_a_file_where_the_data_directory_should_be_is_named_with_the_remedy(idle: Live) -> None:
    Path(idle.settings.data).write_text("")
    said = refused(idle)
    assert idle.settings.data in said
    assert "--data" in said


@root
@as_root
def test_a_data_directory_that_is_mounted_read_only_is_named_with_the_remedy(idle: Live) -> None:
    idle.settings.data_path.mkdir()
    with mounted(idle.settings.data_path, "", MS_BIND | MS_RDONLY, source=idle.settings.data):
        said = refused(idle)
    assert idle.settings.data in said
    assert "Read-only file system" in said
    assert "--data" in said


@root
@as_root
def test_a_data_directory_without_any_space_is_named(idle: Live) -> None:
    idle.settings.data_path.mkdir()
    with mounted(idle.settings.data_path, "tmpfs", data="size=64k,mode=700"):
        with (idle.settings.data_path / "ballast").open("wb", 0) as ballast:
            fill(ballast)
        said = refused(idle)
        with pytest.raises(InvalidInput, match="No space left") as in_background:
            start_background(idle.settings)
    for text in (said, in_background.value.message):
        assert idle.settings.data in text
        assert "No space left" in text


def fill(ballast: Any) -> None:
    """Write until the disk is full."""
    try:
        while True:
            ballast.write(bytes(4096))
    except OSError:
        pass


def test_a_database_of_a_newer_version_is_refused_and_left_unchanged(idle: Live) -> None:
    idle.start()
    idle.deploy("kept", HELLO)
    idle.stop()
    with sqlite3.connect(idle.settings.database) as database:
        (version,) = database.execute("PRAGMA user_version").fetchone()
        database.execute("PRAGMA user_version = 999")
    database.close()
    said = refused(idle)
    assert "999" in said
    assert "newer rescoldo" in said
    with sqlite3.connect(idle.settings.database) as database:
        database.execute(f"PRAGMA user_version = {version}")
    database.close()
    idle.start()
    assert idle.invoke("kept").status == 200


def test_a_damaged_database_is_refused_with_the_remedy(idle: Live) -> None:
    idle.settings.data_path.mkdir()
    idle.settings.database.write_bytes(b"garbage" * 1000)
    said = refused(idle)
    assert str(idle.settings.database) in said
    assert "backup" in said


def test_a_bundle_missing_on_the_disk_fails_only_its_function(own_platform: Live) -> None:
    own_platform.deploy("gone", HELLO)
    own_platform.deploy("there", IDENTITY)
    handlers = own_platform.settings.bundles.glob("*/function/handler.py")
    digest = next(handler.parents[1] for handler in handlers if "hello" in handler.read_text())
    shutil.rmtree(digest)
    answer = own_platform.invoke("gone")
    assert 400 <= answer.status < 600
    assert digest.name in answer.text
    assert own_platform.invoke("there").status == 200
    own_platform.deploy("gone", HELLO)
    assert own_platform.invoke("gone").status == 200


def test_the_partial_upload_of_a_killed_controller_is_removed(own_platform: Live) -> None:
    uploads = own_platform.settings.uploads
    authorization = "".join(f"{name}: {value}\r\n" for name, value in own_platform.authorization().items())
    head = f"POST /system/bundles?image=x:1 HTTP/1.1\r\nHost: x\r\n{authorization}Content-Length: 1000000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", own_platform.port)) as client:
        client.sendall(head.encode() + b"x" * 100_000)
        own_platform.until(lambda: list(uploads.iterdir()), "the upload to begin")
        own_platform.kill("controller")
        own_platform.until(lambda: not list(uploads.iterdir()), "the partial upload to be removed")


# -- ports and neighbours


@pytest.mark.parametrize("which", ["gateway", "metrics"])
def test_the_error_for_a_taken_port_names_the_flag_that_chooses_another(which: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        live = Live(**{which: address})
        try:
            said = refused(live)
        finally:
            live.close()
    assert address in said
    assert "already in use" in said
    assert f"--{which}-address" in said


def test_one_port_for_gateway_and_metrics_is_refused_with_the_flag_that_chooses_another() -> None:
    live = Live()
    live.settings = replace(live.settings, metrics=live.settings.gateway)
    try:
        said = refused(live)
    finally:
        live.close()
    assert f"{live.settings.gateway} is already in use" in said
    assert "--metrics-address" in said


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.1:0", "127.0.0.1:99999", "203.0.113.1:80", "nowhere:x"])
def test_the_error_for_an_impossible_address_names_it(address: str) -> None:
    live = Live()
    live.settings = live.settings.__class__(
        data=live.settings.data, run=live.settings.run, gateway=address, metrics=live.settings.metrics
    )
    try:
        said = refused(live)
    finally:
        live.close()
    assert address in said
    assert "--gateway-address" in said


def test_a_second_platform_on_the_same_data_is_refused_and_the_first_goes_on(own_platform: Live) -> None:
    own_platform.deploy("a", HELLO)
    first = own_platform.process
    ports = free_ports(2)
    second = Live(
        data=own_platform.settings.data,
        run=str(own_platform.folder / "run2"),
        gateway=f"127.0.0.1:{ports[0]}",
        metrics=f"127.0.0.1:{ports[1]}",
    )
    with Load(own_platform, "a") as load:
        try:
            said = refused(second)
        finally:
            second.close()
        load.more(20)
    assert load.errors == {}
    assert first is not None
    assert f"process {first.pid}" in said
    assert "rescoldo down" in said
    assert own_platform.system("GET", "/functions").status == 200


@root
@as_root
def test_two_platforms_on_one_machine_do_not_touch_each_others_instances() -> None:
    with Live() as one, Live() as two:
        for live in (one, two):
            live.deploy("f", IDENTITY)
        token, uid = one.invoke("f").text.split()
        assert two.invoke("f").text.split()[1] != uid
        two.sleep("f")
        two.until(lambda: not two.instances(), "the instance to end")
        assert one.invoke("f").text == f"{token} {uid}"


# -- more calls than places


def statuses(live: Live, name: str, count: int) -> Counter[int]:
    """Make `count` calls at once; return their statuses. Each refusal must have a Retry-After."""
    with ThreadPoolExecutor(count) as pool:
        answers = list(pool.map(lambda _: live.invoke(name), range(count)))
    assert all("retry-after" in answer.headers for answer in answers if answer.status != 200)
    return Counter(answer.status for answer in answers)


def test_cold_calls_beyond_the_limit_of_holds_are_refused_with_retry_after() -> None:
    with Live(max_holds_per_function=4) as live:
        live.deploy("slow-start", "import time\ntime.sleep(1.5)\n" + HELLO)
        assert statuses(live, "slow-start", 12) == {200: 4, 503: 8}
        assert statuses(live, "slow-start", 12) == {200: 12}, "the awake function refuses calls"


def test_calls_beyond_the_queue_are_refused_with_retry_after() -> None:
    with Live(limits=Limits(max_queue=3)) as live:
        live.deploy("slow", SLOW.replace("1)", "0.3)"), annotations={"rescoldo.dev/concurrency": "1"})
        live.invoke("slow")
        found = statuses(live, "slow", 12)
        assert set(found) == {200, 429}, found
        assert 4 <= found[200] <= 6  # one call runs, three wait; one or two may end meanwhile
        assert live.invoke("slow").status == 200


def test_more_awake_functions_than_slots_all_answer_within_seconds() -> None:
    with Live(slots=2) as live:
        for number in range(8):
            live.deploy(f"f{number}", HELLO, image="f:test", annotations={"rescoldo.dev/idle-window": "10m"})
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda number: live.invoke(f"f{number}"), range(8)))
        refused_now = [answer for answer in answers if answer.status != 200]
        assert {answer.status for answer in refused_now} <= {503}
        assert all("retry-after" in answer.headers for answer in refused_now)
        for number in range(8):
            live.until(lambda number=number: live.invoke(f"f{number}").status == 200, f"f{number} to get a slot", 10)


# -- stops, and the start after a crash


def test_calls_in_flight_are_answered_when_the_platform_stops(own_platform: Live) -> None:
    own_platform.deploy("slow", SLOW)
    own_platform.deploy("cold", SLOW)
    own_platform.invoke("slow")
    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(own_platform.invoke, name, b"x") for name in ("slow", "cold")]
        own_platform.until(lambda: own_platform.replicas("cold") == 1, "both functions to be called")
        assert own_platform.stop() == 0
        assert [call.result().text for call in calls] == ["done", "done"]


def test_a_held_call_is_answered_when_the_platform_stops(own_platform: Live) -> None:
    own_platform.deploy("held", "import time\ntime.sleep(1)\n" + HELLO)
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(own_platform.invoke, "held")
        own_platform.until(own_platform.instances, "the start to begin")
        assert own_platform.stop() == 0
        assert 200 <= held.result().status < 600


def test_an_endless_call_does_not_keep_the_platform_from_stopping(own_platform: Live) -> None:
    own_platform.deploy(
        "endless",
        "import time\ndef handle(event, context):\n    print('BEGUN')\n    time.sleep(600)\n",
        envVars={"exec_timeout": "10m"},
        annotations={"rescoldo.dev/grace": "0s"},
    )
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(own_platform.invoke, "endless")
        own_platform.until(lambda: "BEGUN" in own_platform.function_log("endless"), "the function to be called")
        assert own_platform.stop() == 0
        assert isinstance(call.exception(), OSError | HTTPException)


def test_leftover_files_after_a_loss_of_power_do_no_harm(idle: Live) -> None:
    idle.start()
    idle.deploy("kept", HELLO)
    idle.invoke("kept")
    shutil.copytree(
        idle.settings.run,
        idle.folder / "before",
        ignore=lambda folder, names: [
            name for name in names if not Path(folder, name).is_file() and not Path(folder, name).is_dir()
        ],
    )
    idle.stop()
    shutil.copytree(idle.folder / "before", idle.settings.run)
    # the pids of an earlier boot now belong to other processes, which must not be harmed
    with subprocess.Popen(["sleep", "600"]) as bystander:
        try:
            children = dict.fromkeys(("edge", "controller", "node"), bystander.pid)
            idle.settings.children_file.write_text(json.dumps(children))
            idle.settings.pid_file.write_text(str(bystander.pid))
            idle.start()
            assert idle.invoke("kept").status == 200
            assert bystander.poll() is None
        finally:
            bystander.send_signal(signal.SIGTERM)
