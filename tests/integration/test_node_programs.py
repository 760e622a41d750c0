"""Programs that speak HTTP: how a real node starts, watches and ends them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rescoldo.model.errors import StartFailed, StartTimeout
from rescoldo.model.ids import EDGE_UID, INSTANCE_UIDS
from rescoldo.model.instance import Launch, RunningInstance
from rescoldo.node.protocol import Exit
from support.programs import write_server
from support.real_node import RealNode, alive, call, socket_of, until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]

Order = Callable[..., Launch]


@pytest.fixture
def order(node: RealNode, tmp_path: Path) -> Order:
    """Return a function that writes a bundle with the server of programs.py and returns the launch of an instance."""
    file = write_server(tmp_path)

    def make(upstream: str = "unix", command: str = "./server", **more: Any) -> Launch:
        return node.program(command, upstream, file, **more)

    return make


async def look(running: RunningInstance, path: str = "/") -> dict[str, Any]:
    return dict(json.loads(await call(running, path)))


# -- the start


@pytest.mark.parametrize("upstream", ["tcp:8123", "unix", "inherited"])
async def test_a_program_is_ready_when_it_answers(node: RealNode, order: Order, upstream: str) -> None:
    launch = order(upstream)
    running = await node.client.start(launch)
    seen = await look(running)
    assert seen["uid"] == running.uid
    assert running.uid in INSTANCE_UIDS
    assert seen["cwd"].endswith(f"{launch.digest}/function")
    assert await node.logged(launch) == ["hello from the program"]
    assert min(running.took[:3]) > 0
    assert running.took.listen == 0, "a program does not report when it is loaded"


@pytest.mark.parametrize("upstream", ["tcp:8123", "unix", "inherited"])
async def test_a_start_reports_the_address_early_and_a_stopped_start_leaves_no_note(
    node: RealNode, order: Order, upstream: str
) -> None:
    launch = order(upstream, "sleep 60")
    told: list[str] = []
    starting = asyncio.create_task(node.client.start(launch, told.append))
    await until(lambda: told)
    assert not starting.done()
    assert told[0].endswith(":8123") if upstream == "tcp:8123" else launch.instance in told[0]
    prepared = node.settings.instance_state / f"{launch.instance}.new"
    await until(prepared.exists)  # the note for the moment when the program is ready
    await node.client.stop(launch.instance)
    with pytest.raises(StartFailed, match="stopped while it was starting"):
        await starting
    assert list(node.settings.instance_state.iterdir()) == []


def parent_name(pid: int) -> str:
    parent = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[1]
    return Path(f"/proc/{parent}/comm").read_text().strip()


async def test_programs_come_from_their_own_zygote_once_it_runs(node: RealNode, order: Order) -> None:
    first = await node.client.start(order("inherited"))
    assert parent_name(first.pid) == "rescoldo-zyg"  # the first one does not wait for it

    async def from_their_own() -> bool:
        running = await node.client.start(order("inherited"))
        await look(running)
        return parent_name(running.pid) == "rescoldo-bare"

    await until(from_their_own)
    assert parent_name((await node.client.start(node.launch())).pid) == "rescoldo-zyg"


async def test_a_program_gets_its_arguments_its_environment_and_nothing_of_the_platform(
    node: RealNode, order: Order
) -> None:
    launch = order("inherited", "./server one  two", env={"MINE": "1", "PATH": "/usr/bin"}, name="named")
    seen = await look(await node.client.start(launch))
    assert seen["argv"] == ["one", "two"]
    env = seen["env"]
    expected = {"MINE": "1", "PATH": "/usr/bin", "HOME": "/tmp", "TMPDIR": "/tmp", "OPENFAAS_NAME": "named"}
    assert {key: env.get(key) for key in expected} == expected
    assert not [key for key in env if "RESCOLDO" in key or key == "A_SECRET"]


async def test_a_program_inherits_its_socket_and_its_output_and_nothing_else(node: RealNode, order: Order) -> None:
    running = await node.client.start(order("inherited"))
    seen = await look(running)
    assert (seen["env"]["LISTEN_FDS"], seen["env"]["LISTEN_FDNAMES"]) == ("1", "http")
    assert seen["env"]["LISTEN_PID"] == str(seen["pid"])
    fds = {number: target for number, target in seen["fds"].items() if not target.startswith(("/proc", "socket:"))}
    assert set(fds) == {"0", "1", "2"}
    assert seen["fds"]["3"].startswith("socket:")


@pytest.mark.parametrize("node", [["env", "--ignore-signal=INT,QUIT,HUP"]], ids=["in the background"], indirect=True)
async def test_a_program_ignores_no_signal_at_its_start(node: RealNode, order: Order) -> None:
    launch = order("unix", "sleep 60")
    starting = asyncio.create_task(node.client.start(launch))
    note = node.settings.instance_state / f"{launch.instance}.json"

    def status() -> dict[str, str]:
        pid = json.loads(note.read_text())["pid"] if note.exists() else 0
        if not pid:
            return {}
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}

    await until(lambda: status().get("Name") == "sleep")
    ours = 0b11 << 31  # 32 and 33 are the C library's: our parent may ignore them, and Python cannot tell
    assert (int(status()["SigIgn"], 16) & ~ours, int(status()["SigBlk"], 16)) == (0, 0)
    await node.client.stop(launch.instance)
    with pytest.raises(StartFailed, match="stopped while it was starting"):
        await starting


async def test_a_command_without_a_slash_is_looked_for_in_the_bundle_and_then_on_path(
    node: RealNode, order: Order
) -> None:
    assert (await look(await node.client.start(order(command="server x"))))["argv"] == ["x"]
    assert (await look(await node.client.start(order(command="python3 server y"))))["argv"] == ["y"]


async def test_port_holds_the_port_unless_the_function_sets_another(node: RealNode, order: Order) -> None:
    seen = await look(await node.client.start(order("tcp:8124")))
    assert seen["env"]["PORT"] == "8124"
    launch = order("tcp:8125", env={"PORT": "8126"}, ready_timeout=0.5)
    with pytest.raises(StartTimeout):
        await node.client.start(launch)


# -- starts that fail


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("./none", "fprocess: ./none does not exist"),
        ("none", "fprocess: none is neither in the bundle nor on PATH"),
        ("./text", "fprocess: ./text is not executable; run `chmod +x text`"),
        ("./script", "fprocess: ./script is a script for /no/interpreter, which is not on this machine"),
        ("./other", "fprocess: ./other is built for machine 9999"),
        ("./words", "fprocess: ./words is neither a Linux program nor a script"),
    ],
)
@pytest.mark.parametrize("upstream", ["unix", "inherited"])
async def test_the_error_for_a_file_that_cannot_be_executed_has_the_reason(
    node: RealNode, order: Order, command: str, reason: str, upstream: str
) -> None:
    launch = order(upstream, command)
    folder = node.settings.bundles / launch.digest / "function"
    elf = b"\x7fELF\x02\x01\x01" + bytes(11) + (9999).to_bytes(2, "little") + bytes(100)
    for name, content in (("text", b""), ("script", b"#!/no/interpreter\n"), ("other", elf), ("words", b"hello\n")):
        (folder / name).write_bytes(content)
        (folder / name).chmod(0o640 if name == "text" else 0o750)
        os.chown(folder / name, 0, folder.stat().st_gid)
    with pytest.raises(StartFailed) as caught:
        await node.client.start(launch)
    assert reason in caught.value.message
    assert await node.client.instances() == []


@pytest.mark.parametrize("upstream", ["tcp:8127", "unix", "inherited"])
async def test_the_error_for_a_program_that_exits_at_once_has_its_output(
    node: RealNode, order: Order, upstream: str
) -> None:
    with pytest.raises(StartFailed) as caught:
        await node.client.start(order(upstream, env={"EXIT": "3"}))
    assert "exit status 3 before it was ready\nhello from the program" in caught.value.message


@pytest.mark.parametrize("upstream", ["tcp:8128", "unix", "inherited"])
async def test_a_program_that_never_listens_is_ended_at_its_deadline(
    node: RealNode, order: Order, upstream: str
) -> None:
    with pytest.raises(StartTimeout, match=r"not ready after 0\.4 s"):
        await node.client.start(order(upstream, env={"DELAY": "60"}, ready_timeout=0.4))
    assert await node.client.instances() == []


@pytest.mark.parametrize("upstream", ["tcp:8129", "unix", "inherited"])
async def test_the_node_waits_for_a_slow_program(node: RealNode, order: Order, upstream: str) -> None:
    begin = time.monotonic()
    running = await node.client.start(order(upstream, env={"DELAY": "0.6"}))
    assert time.monotonic() - begin >= 0.6
    assert (await look(running))["path"] == "/"


# -- its Unix socket


async def test_only_the_edge_can_reach_a_programs_socket(node: RealNode, order: Order) -> None:
    running = await node.client.start(order("unix"))
    path = socket_of(running)
    assert (path.stat().st_uid, path.stat().st_mode & 0o777) == (EDGE_UID, 0o600)
    assert (path.parent.stat().st_gid, path.parent.stat().st_mode & 0o777) == (EDGE_UID, 0o710)
    bound = path.parent.parent / "in"
    assert (bound.stat().st_uid, bound.stat().st_mode & 0o777) == (running.uid, 0o700)


async def test_a_link_in_place_of_the_socket_fails_the_start(node: RealNode, order: Order) -> None:
    other = await node.client.start(order("inherited"))
    launch = order("unix", env={"LINK_TO": str(socket_of(other))}, ready_timeout=0.5)
    with pytest.raises(StartTimeout):
        await node.client.start(launch)


async def test_a_stopped_program_leaves_no_folder_and_no_mount(node: RealNode, order: Order) -> None:
    launch = order("unix")
    await node.client.start(launch)
    assert str(node.settings.program_sockets) in Path("/proc/self/mounts").read_text()
    await node.client.stop(launch.instance)
    assert list(node.settings.program_sockets.iterdir()) == []
    assert str(node.settings.program_sockets) not in Path("/proc/self/mounts").read_text()


async def test_a_new_node_removes_folders_and_mounts_of_a_dead_one(node: RealNode, order: Order) -> None:
    running = await node.client.start(order("unix"))
    node.kill()
    os.kill(running.pid, signal.SIGKILL)
    await until(lambda: not alive(running.pid))
    await node.boot()
    await until(lambda: not list(node.settings.program_sockets.iterdir()))
    assert str(node.settings.program_sockets) not in Path("/proc/self/mounts").read_text()


# -- the end of a program


@pytest.mark.parametrize("upstream", ["tcp:8130", "unix"])
async def test_a_program_that_binds_its_own_socket_is_lost_when_it_ends(
    node: RealNode, order: Order, upstream: str
) -> None:
    told: list[Exit] = []
    watch = asyncio.create_task(node.client.watch(told.append, lambda: None))
    launch = order(upstream)
    running = await node.client.start(launch)
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await look(running, "/crash")
    await until(lambda: told)
    watch.cancel()
    assert (told[0].instance, told[0].reason) == (launch.instance, "exit status 7")
    assert told[0].lived is not None
    assert 0 < told[0].lived < 10
    assert await node.client.instances() == []


async def test_a_program_with_an_inherited_socket_is_replaced_while_a_request_waits(
    node: RealNode, order: Order
) -> None:
    running = await node.client.start(order("inherited", env={"DELAY": "0.2"}))
    os.kill(running.pid, signal.SIGKILL)
    await until(lambda: not alive(running.pid))
    assert (await look(running))["path"] == "/"
    (now,) = await node.client.instances()
    assert now.pid != running.pid


async def test_a_program_that_catches_sigterm_may_finish(node: RealNode, order: Order) -> None:
    launch = order(env={"TERM_CAUGHT": "1"}, grace=10.0)
    running = await node.client.start(launch)
    await node.client.stop(launch.instance)
    assert not alive(running.pid)
    assert await node.logged(launch) == ["hello from the program", "told to end"]


async def test_a_program_that_does_not_catch_sigterm_is_ended_at_once(node: RealNode, order: Order) -> None:
    launch = order(grace=60.0)
    running = await node.client.start(launch)
    async with asyncio.timeout(10.0):
        await node.client.stop(launch.instance)
    assert not alive(running.pid)


async def test_a_program_that_ignores_sigterm_is_killed_after_its_grace(node: RealNode, order: Order) -> None:
    launch = order(env={"TERM_IGNORED": "1"}, grace=0.4)
    running = await node.client.start(launch)
    begin = time.monotonic()
    await node.client.stop(launch.instance)
    assert time.monotonic() - begin >= 0.4
    assert not alive(running.pid)


async def test_a_node_on_sigterm_does_not_wait_for_a_long_grace(node: RealNode, order: Order) -> None:
    patient, stopped = order(env={"TERM_IGNORED": "1"}, grace=600.0), order(env={"TERM_IGNORED": "1"}, grace=600.0)
    pids = [(await node.client.start(launch)).pid for launch in (patient, stopped)]
    stopping = asyncio.create_task(node.client.stop(stopped.instance))

    async def is_stopping() -> bool:
        return len(await node.client.instances()) == 1

    await until(is_stopping)
    assert await asyncio.to_thread(node.kill, signal.SIGTERM) == 0
    assert not any(map(alive, pids))
    await asyncio.gather(stopping, return_exceptions=True)


@pytest.mark.parametrize("upstream", ["tcp:8131", "unix", "inherited"])
async def test_a_program_outlives_its_node_and_is_adopted(node: RealNode, order: Order, upstream: str) -> None:
    launch = order(upstream)
    running = await node.client.start(launch)
    node.kill()
    assert (await look(running))["path"] == "/"
    await node.boot()
    (adopted,) = await node.client.instances()
    assert (adopted.pid, adopted.address) == (running.pid, running.address)
    await node.client.stop(launch.instance)
    assert not alive(running.pid)


async def test_a_taken_port_fails_the_start(node: RealNode, order: Order) -> None:
    with socket.create_server(("0.0.0.0", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StartFailed, match=f"port {port} is taken"):
            await node.client.start(order(f"tcp:{port}"))
