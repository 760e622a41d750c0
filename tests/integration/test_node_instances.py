"""Instances of a real node: how it isolates, replaces and ends them, and how they outlive node and zygote."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rescoldo.model.errors import InvalidInput, NodeUnavailable, StartFailed
from rescoldo.model.ids import EDGE_UID, INSTANCE_UIDS
from rescoldo.node.processes.processes import all_pids, uid_of
from rescoldo.node.protocol import Exit

sys.path.insert(0, str(Path(__file__).parents[1]))
from support.real_node import RealNode, alive, call, socket_of, until

pytestmark = pytest.mark.slow
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


# Identifies a process: in a PID namespace of its own every process has the number 1.
TOKEN = "import uuid\nMINE = uuid.uuid4().hex\ndef handle(event, context):\n    return MINE\n"


async def lived(running_since: float) -> None:
    """Wait until an instance is old enough to be replaced."""
    await until(lambda: time.time() > running_since + 1.05)


# -- the time of a start


async def test_the_phases_of_a_start_take_no_longer_than_the_call(node: RealNode) -> None:
    launch = node.launch("import time\ntime.sleep(0.05)\ndef handle(event, context):\n    return 'x'\n")
    before = time.monotonic()
    running = await node.client.start(launch)
    whole = (time.monotonic() - before) * 1e6
    assert min(running.took) > 0
    assert running.took.load >= 50_000
    assert sum(running.took) <= whole
    assert (await node.client.instances())[0].took == running.took


# -- isolation

LOOKS = """
import json, os, resource, sys
from pathlib import Path
import colorsys  # nothing preloads it: it must be found where Python lives

def tried(action):
    try:
        return str(action())
    except OSError as error:
        return type(error).__name__

def handle(event, context):
    status = dict(line.split(":\\t", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {"body": {
        "uid": os.getresuid(), "gid": os.getresgid(), "groups": os.getgroups(),
        "no_new_privs": status["NoNewPrivs"], "caps": status["CapEff"],
        "comm": Path("/proc/self/comm").read_text().strip(),
        "fds": {fd: tried(lambda fd=fd: os.readlink(f"/proc/self/fd/{fd}")) for fd in os.listdir("/proc/self/fd")},
        "env": dict(os.environ), "umask": os.umask(0o077), "core": resource.getrlimit(resource.RLIMIT_CORE),
        "root": tried(lambda: os.listdir("/root")), "home": tried(lambda: os.listdir("/home")),
        "tmp": os.listdir("/tmp"), "shm": os.listdir("/dev/shm"),
        "write_code": tried(lambda: open("function/x", "w")),
        "write_tmp": tried(lambda: Path("/tmp/mine").write_text("x")),
        "platform": tried(lambda: os.listdir(PLATFORM)), "sockets": tried(lambda: os.listdir(SOCKETS)),
        "bundles": tried(lambda: os.listdir("..")), "random": __import__("random").random(),
        "session": os.getsid(0) == os.getpid(),
    }}
"""


async def looks(node: RealNode, **more: object) -> dict[str, object]:
    code = LOOKS.replace("PLATFORM", repr(node.settings.data)).replace("SOCKETS", repr(node.settings.run))
    launch = node.launch(code, name="looks", **more)
    running = await node.client.start(launch)
    found: dict[str, object] = json.loads(await call(running))
    assert found["uid"] == [running.uid] * 3
    return {**found, "launch": launch}


@pytest.mark.root
@needs_root
async def test_an_instance_has_a_uid_of_its_own_and_no_rights(node: RealNode) -> None:
    one, other = await looks(node), await looks(node)
    assert one["uid"][0] in INSTANCE_UIDS
    assert one["uid"] != other["uid"]
    assert one["gid"] == [(node.settings.bundles / one["launch"].digest).stat().st_gid] * 3
    assert (one["groups"], one["no_new_privs"], one["caps"].strip("0")) == ([], "1", "")
    assert (one["umask"], one["core"], one["session"]) == (0o077, [0, 0], True)
    assert one["random"] != other["random"]


@pytest.mark.root
@needs_root
async def test_an_instance_sees_no_home_no_platform_file_and_a_tmp_of_its_own(node: RealNode) -> None:
    await looks(node)  # writes /tmp/mine
    seen = await looks(node)
    visible = {Path(path).parts[2] for path in (sys.prefix, node.folder) if path and str(path).startswith("/tmp/")}
    assert set(seen["tmp"]) <= visible
    assert seen["shm"] == []
    assert seen["write_tmp"] == "1"
    assert seen["root"] in ("[]", "['.pyenv']")  # only the way to the interpreter
    assert seen["home"] == "FileNotFoundError"
    assert seen["platform"] == "['bundles', 'python']"  # the interpreter without packages that functions run on
    assert seen["sockets"] == "FileNotFoundError"
    assert seen["bundles"] == "PermissionError" or "looks" not in str(seen["bundles"])
    assert seen["write_code"] in ("PermissionError", "OSError")


async def test_an_instance_gets_its_own_variables_and_nothing_of_the_platform(node: RealNode) -> None:
    env = (await looks(node, env={"GREETING": "hola", "HOME": "/elsewhere"}))["env"]
    bundle = env["PYTHONPATH"].partition(":")[0]
    assert Path(bundle).parent.name == "bundles"
    assert env == {
        "PATH": env["PATH"],
        "PYTHONPATH": f"{bundle}:{bundle}/deps",
        "LANG": "C.UTF-8",
        "HOME": "/elsewhere",
        "TMPDIR": "/tmp",
        "secret_mount_path": "/var/openfaas/secrets",
        "OPENFAAS_GATEWAY": "http://127.0.0.1:8080",  # no supervisor has put up a fence
        "gateway_hostname": "127.0.0.1",
        "GREETING": "hola",
        "OPENFAAS_NAME": "looks",
        "OPENFAAS_NAMESPACE": "ns",
    }


async def test_an_instance_inherits_no_descriptor_of_the_zygote(node: RealNode) -> None:
    seen = await looks(node)
    targets = set(seen["fds"].values())
    files = {target for target in targets if target.startswith("/") and "/proc/" not in target}
    assert {Path(file).name for file in files} == {"null", "looks-1.log", "looks-1.err"}
    zygote = set()
    for link in Path(f"/proc/{node.zygote()}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed after it was listed
            zygote.add(str(link.readlink()))
    assert any(target.startswith("socket:") for target in zygote)
    # these two have the same name in every process
    assert targets & zygote - {"/dev/null", "anon_inode:[eventpoll]"} == set()
    assert seen["comm"] == "looks"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may look into a process that is not dumpable")
async def test_zygote_and_instance_do_not_start_with_the_platforms_environment(node: RealNode) -> None:
    assert node.process is not None
    running = await node.client.start(node.launch())
    assert b"A_SECRET" in Path(f"/proc/{node.process.pid}/environ").read_bytes()
    for pid in (node.zygote(), running.pid):
        assert b"A_SECRET" not in Path(f"/proc/{pid}/environ").read_bytes()


@pytest.mark.root
@needs_root
async def test_only_the_edge_may_connect_to_an_instance(node: RealNode) -> None:
    running = await node.client.start(node.launch())
    socket, folder = socket_of(running).stat(), node.settings.instances.stat()
    assert (socket.st_uid, socket.st_mode & 0o777) == (EDGE_UID, 0o600)
    assert (folder.st_uid, folder.st_gid, folder.st_mode & 0o777) == (0, EDGE_UID, 0o710)


async def test_a_start_whose_client_leaves_is_cancelled(node: RealNode) -> None:
    starting = asyncio.create_task(node.client.start(node.launch("import time\ntime.sleep(60)\n" + TOKEN)))
    await until(lambda: len(list(node.settings.instances.glob("*.sock"))) == 1)
    await node.client.close()
    with pytest.raises(NodeUnavailable):
        await starting
    await until(lambda: list(node.settings.instances.iterdir()) == [])


# -- replacement


async def test_a_killed_instance_is_replaced_on_its_socket_while_a_client_waits(node: RealNode) -> None:
    running = await node.client.start(node.launch(TOKEN))
    first = await call(running)
    await lived(running.started_at)
    # frozen first, so that the client's connection is in the backlog when the instance dies
    os.kill(running.pid, signal.SIGSTOP)
    waiting = asyncio.create_task(call(running))
    await asyncio.sleep(0)
    os.kill(running.pid, signal.SIGKILL)
    assert await waiting != first
    (now,) = await node.client.instances()
    assert now.pid != running.pid
    assert (now.address, now.uid) == (running.address, running.uid)
    await until(lambda: logged(node, running.launch, "instance ended: signal 9 (SIGKILL); replaced"))


def sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "60"])


async def logged(node: RealNode, launch: object, text: str) -> bool:
    return text in await node.logged(launch)  # type: ignore[arg-type]


async def test_an_instance_that_dies_young_is_replaced_and_refuses_no_connection(node: RealNode) -> None:
    launch = node.launch("import os\ndef handle(event, context):\n    os._exit(3)\n")
    running = await node.client.start(launch)
    for _ in range(3):
        with pytest.raises((EOFError, ConnectionResetError)):  # its call fails; a connection is never refused
            await call(running)
    await until(lambda: logged(node, launch, "instance ended: exit status 3; replaced"))
    (now,) = await node.client.instances()
    assert now.address == running.address


async def test_an_instance_whose_replacement_fails_is_lost_with_both_reasons(node: RealNode) -> None:
    exits: list[Exit] = []
    reached = asyncio.Event()
    watching = asyncio.create_task(node.client.watch(exits.append, reached.set))
    await reached.wait()
    launch = node.launch(TOKEN)
    running = await node.client.start(launch)
    handler = node.settings.bundles / launch.digest / "function" / "handler.py"
    handler.write_text("raise KeyError('no more')\n")
    await lived(running.started_at)
    os.kill(running.pid, signal.SIGTERM)
    await until(lambda: exits)
    assert exits[0].reason.startswith("exit status 0; its replacement failed: fn.ns: ")
    assert "no more" in exits[0].reason
    assert await node.client.instances() == []
    await node.client.stop(launch.instance)
    assert not socket_of(running).exists()
    watching.cancel()


async def test_the_error_of_a_crash_at_import_has_the_last_ten_lines(node: RealNode) -> None:
    code = "for n in range(30): print('line', n)\nimport os; os._exit(7)\n"
    with pytest.raises(StartFailed) as failure:
        await node.client.start(node.launch(code))
    first, *lines = failure.value.message.splitlines()
    assert first == "fn.ns: exit status 7 before it was ready"
    assert lines == [f"line {n}" for n in range(20, 30)]


async def test_too_large_an_environment_is_refused_before_the_start(node: RealNode) -> None:
    with pytest.raises(InvalidInput, match="1 MiB"):
        await node.client.start(node.launch(env={"BIG": "x" * 2**20}))
    launch = node.launch(
        "import os\ndef handle(e, c):\n    return str(len(os.environ['BIG']))", env={"BIG": "x" * 500_000}
    )
    assert await call(await node.client.start(launch)) == "500000"


async def test_many_starts_at_once_all_succeed(node: RealNode) -> None:
    running = await asyncio.gather(*(node.client.start(node.launch()) for _ in range(40)))
    assert len({one.pid for one in running}) == 40
    assert await asyncio.gather(*(call(one) for one in running)) == ["hello"] * 40
    await asyncio.gather(*(node.client.stop(one.launch.instance) for one in running))
    assert not any(alive(one.pid) for one in running)


# -- the end of an instance


async def test_an_instance_that_ignores_sigterm_is_killed_after_its_grace(node: RealNode) -> None:
    code = "import time\ndef handle(event, context):\n    print('in')\n    time.sleep(60)\n"
    launch = node.launch(code, grace=0.3)
    running = await node.client.start(launch)
    hanging = asyncio.create_task(call(running))
    await until(lambda: logged(node, launch, "in"))
    began = time.monotonic()
    await node.client.stop(launch.instance)
    assert 0.3 <= time.monotonic() - began < 3
    assert not alive(running.pid)
    await until(lambda: logged(node, launch, "instance killed: it did not end within 0.3 s of SIGTERM"))
    with pytest.raises((EOFError, ConnectionError)):
        await hanging


ESCAPES = """
import os, sys, time
def handle(event, context):
    read, write = os.pipe()
    if os.fork() == 0:
        os.setsid()
        pid = os.fork()
        if pid == 0:
            os.setsid()
            for number in range(1, 32):
                try:
                    __import__("signal").signal(number, 1)
                except OSError:
                    pass
            time.sleep(600)
        os.write(write, str(pid).encode())
        os._exit(0)
    os.wait()
    return os.read(read, 100).decode()
"""


def of_uid(uid: int) -> list[int]:
    return [pid for pid in all_pids() if uid_of(pid) == uid]


@pytest.mark.root
@needs_root
async def test_a_process_that_fled_its_group_and_session_ends_with_its_instance(node: RealNode) -> None:
    running = await node.client.start(node.launch(ESCAPES))
    await call(running)
    assert len(of_uid(running.uid)) == 2  # the instance and the process that fled
    (usage,) = await node.client.usage(running.launch.function)
    assert usage.memory > 2 * 2**20
    await node.client.stop(running.launch.instance)
    assert of_uid(running.uid) == []


async def test_stopping_leaves_no_file_and_keeps_the_last_words(node: RealNode) -> None:
    code = "import atexit, sys\ndef handle(event, context):\n    sys.stdout.write('no newline')\n    return 'x'\n"
    launch = node.launch(code)
    running = await node.client.start(launch)
    await call(running)
    await node.client.stop(launch.instance)
    assert await node.logged(launch) == ["no newline"]
    assert list(node.settings.instances.iterdir()) == []
    assert list(node.settings.instance_state.iterdir()) == []


async def test_sigterm_ends_every_instance_and_the_node_with_status_0(node: RealNode) -> None:
    running = [await node.client.start(node.launch()) for _ in range(3)]
    assert await asyncio.to_thread(node.kill, signal.SIGTERM) == 0
    assert not any(alive(one.pid) for one in running)
    assert list(node.settings.instances.iterdir()) == []


# -- the end of zygote or node


async def test_instances_outlive_a_killed_zygote_and_new_ones_start(node: RealNode) -> None:
    running = await node.client.start(node.launch(TOKEN))
    first = await call(running)
    zygote = node.zygote()
    os.kill(zygote, signal.SIGKILL)
    second = await node.client.start(node.launch(TOKEN))
    assert await call(running) == first
    assert await call(second) != first
    await until(lambda: node.zygote() not in (0, zygote))
    await lived(running.started_at)
    os.kill(running.pid, signal.SIGKILL)  # now a child of this process; the node knows its status all the same
    await until(lambda: logged(node, running.launch, "instance ended: signal 9 (SIGKILL); replaced"))
    assert await call(running) != first


async def test_a_start_under_way_survives_the_death_of_the_zygote(node: RealNode) -> None:
    await node.client.start(node.launch())
    zygote = node.zygote()
    os.kill(zygote, signal.SIGSTOP)
    starting = [asyncio.create_task(node.client.start(node.launch())) for _ in range(3)]
    await node.client.instances()  # the answer comes after the node has read the starts
    os.kill(zygote, signal.SIGKILL)
    for running in await asyncio.gather(*starting):
        assert await call(running) == "hello"


async def test_a_new_node_adopts_the_instances_of_a_killed_one(node: RealNode) -> None:
    kept = await node.client.start(node.launch("def handle(e, c):\n    print('still here')\n    return 'x'\n"))
    died = await node.client.start(node.launch(TOKEN))
    zygote = node.zygote()
    node.kill()
    await until(lambda: not alive(zygote))
    assert alive(kept.pid)
    assert await call(kept) == "x"  # with no node at all
    os.kill(died.pid, signal.SIGKILL)
    await until(lambda: not alive(died.pid))
    await node.boot()
    assert await node.client.instances() == [kept]
    assert not socket_of(died).exists()
    await until(lambda: logged(node, kept.launch, "still here"))
    fresh = await node.client.start(node.launch(TOKEN))
    if os.geteuid() == 0:
        assert fresh.uid not in (kept.uid, died.uid)
    await node.client.stop(kept.launch.instance)
    assert not alive(kept.pid)
    assert not socket_of(kept).exists()


@pytest.mark.root
@needs_root
async def test_an_adopted_instance_that_ends_is_replaced_on_its_socket(node: RealNode) -> None:
    running = await node.client.start(node.launch(TOKEN))
    first = await call(running)
    node.kill()
    await node.boot()
    os.kill(running.pid, signal.SIGKILL)
    assert await call(running) != first
    (now,) = await node.client.instances()
    assert now.address == running.address


async def test_a_note_with_the_pid_of_another_process_is_not_adopted(node: RealNode) -> None:
    running = await node.client.start(node.launch(TOKEN))
    node.kill()
    note_path = node.settings.instance_state / f"{running.launch.instance}.json"
    note = json.loads(note_path.read_text())
    with sleeper() as bystander:
        note_path.write_text(json.dumps({**note, "pid": bystander.pid}))
        (node.settings.instance_state / "broken.json").write_text("{")
        await node.boot()
        assert await node.client.instances() == []
        assert bystander.poll() is None
        bystander.kill()
    if os.geteuid() == 0:
        assert not alive(running.pid)  # the node found it by its uid
    elif alive(running.pid):
        os.kill(running.pid, signal.SIGKILL)
    assert list(node.settings.instance_state.iterdir()) == []


async def test_a_watcher_learns_that_the_node_is_back(node: RealNode) -> None:
    reached: list[None] = []
    watching = asyncio.create_task(node.client.watch(lambda _: None, lambda: reached.append(None)))
    await until(lambda: len(reached) == 1)
    node.kill()
    await node.boot()
    await until(lambda: len(reached) == 2)
    watching.cancel()


# -- output

FLOODS = """
import os, threading
def flood():
    while True:
        os.write(1, PRINTED)
def handle(event, context):
    threading.Thread(target=flood, daemon=True).start()
    return "flooding"
"""


@pytest.mark.parametrize(("printed", "least"), [(b"x" * 99 + b"\n", 2**18), (b"\n" * 4096, 2**17)])
async def test_a_flood_stays_within_its_budget_and_stalls_nothing(node: RealNode, printed: bytes, least: int) -> None:
    assert node.process is not None
    launch = node.launch(FLOODS.replace("PRINTED", repr(printed)), name="loud", grace=0.1)
    running = await node.client.start(launch)
    await call(running)
    before = _resident(node.process.pid)
    lines = node.client.logs(launch.function, tail=0, since=None, follow=True)
    async with asyncio.timeout(20):
        async for line in lines:
            if "(limit 256 KiB/s, " in line.text:
                break
    await lines.aclose()  # type: ignore[attr-defined]
    began = time.monotonic()
    other = await node.client.start(node.launch())
    assert await call(other) == "hello"
    assert time.monotonic() - began < 10
    assert _resident(node.process.pid) - before < 6 * 2**20
    await node.client.stop(launch.instance)
    size = sum(file.stat().st_size for file in node.settings.logs.glob("loud.ns.log*"))
    assert least < size <= 2 * 2**20 + 2**17


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


async def test_an_instance_may_write_to_dev_stdout(node: RealNode) -> None:
    code = "def handle(event, context):\n    open('/dev/stdout', 'w').write('through the device\\n')\n    return ''\n"
    running = await node.client.start(node.launch(code))
    await call(running)
    await until(lambda: logged(node, running.launch, "through the device"))


async def test_instances_start_and_answer_although_the_disk_takes_no_log(node: RealNode) -> None:
    blocked = node.launch(name="mute")
    (node.settings.logs / f"{blocked.function}.log").mkdir()  # cannot be opened for writing
    code = "def handle(event, context):\n    print('unheard')\n    return 'served'\n"
    launch = node.launch(code, name="mute")
    running = await node.client.start(launch)
    for _ in range(3):
        assert await call(running) == "served"
    await until(lambda: "cannot save functions' output" in node.stderr())
    assert await node.client.instances() == [running]


async def test_the_node_process_stays_small(node: RealNode) -> None:
    assert node.process is not None
    await node.client.start(node.launch())
    rollup = Path(f"/proc/{node.process.pid}/smaps_rollup").read_text().splitlines()
    proportional = next(int(line.split()[1]) for line in rollup if line.startswith("Pss:"))
    assert proportional < 20 * 1024  # KiB


@pytest.mark.root
@needs_root
async def test_a_new_node_removes_starts_that_a_killed_one_left(node: RealNode) -> None:
    launch = node.launch("import time\nprint('importing')\ntime.sleep(600)\n")
    starting = asyncio.create_task(node.client.start(launch))
    note_path = node.settings.instance_state / f"{launch.instance}.json"
    await until(lambda: note_path.exists() and json.loads(note_path.read_text())["pid"])
    pid = json.loads(note_path.read_text())["pid"]
    node.kill()
    with pytest.raises(NodeUnavailable):
        await starting
    assert alive(pid)
    await node.boot()
    assert not alive(pid)
    assert list(node.settings.instance_state.iterdir()) == []
    assert list(node.settings.instances.iterdir()) == []


async def test_a_request_waits_in_a_handed_over_socket_until_the_next_node(node: RealNode) -> None:
    running = await node.client.start(node.launch())
    node.kill()
    await node.client.close()
    node.hand_over()
    waiting = asyncio.create_task(node.client.instances())
    await asyncio.sleep(0)
    await node.boot()
    assert await waiting == [running]
    assert await asyncio.to_thread(node.kill, signal.SIGTERM) == 0
    assert node.settings.node_socket.exists()  # the supervisor removes it


async def test_two_hundred_starts_at_once_leave_the_node_answering(node: RealNode) -> None:
    await node.client.start(node.launch())
    starting = [asyncio.create_task(node.client.start(node.launch(ready_timeout=60.0))) for _ in range(200)]
    seen = set()  # the number of ready instances at each answer
    while not all(task.done() for task in starting):
        seen.add(len(await node.client.instances()))
    assert len({(await task).pid for task in starting}) == 200
    assert len(seen) >= 10, "the node hardly ever answered during the starts"
