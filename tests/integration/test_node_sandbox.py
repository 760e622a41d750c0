"""The sandbox of an instance at the level full: limits, secrets, and their complete removal."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from rescoldo.isolation.cgroups import Base, Groups
from rescoldo.isolation.level import level
from rescoldo.isolation.netfence import address_of
from rescoldo.model.errors import StartFailed

sys.path.insert(0, str(Path(__file__).parents[1]))
from support.real_node import RealNode, call, until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.root,
    pytest.mark.skipif(level() != "full", reason="needs root that may make namespaces"),
]

MEMORY = 64 * 2**20
EATS = "def handle(event, context):\n    return str(len(bytearray(int(event.query['bytes']))))\n"
EATS_TMP = """
def handle(event, context):
    with open("/tmp/full", "wb") as file:
        for _ in range(60):
            file.write(bytes(2**20))
    return "written"
"""
CHILD_EATS = """
import subprocess, sys
def handle(event, context):
    eater = subprocess.run([sys.executable, "-c", "bytearray(200 * 2**20)"])
    return str(eater.returncode)
"""
FORKS = """
import os, time
def handle(event, context):
    children = []
    try:
        for _ in range(2000):
            pid = os.fork()
            if pid == 0:
                time.sleep(60)
                os._exit(0)
            children.append(pid)
    except OSError as error:
        reason = error.strerror
    for pid in children:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    return f"{len(children)} {reason}"
"""
SPINS = """
import time
def handle(event, context):
    used, begin = time.process_time(), time.monotonic()
    while time.monotonic() - begin < 1:
        pass
    return str(time.process_time() - used)
"""
SECRETS = """
import os
def handle(event, context):
    folder = os.environ["secret_mount_path"]
    def tried(act):
        try:
            return act()
        except OSError as error:
            return type(error).__name__
    return {"body": {
        "folder": folder,
        "names": sorted(os.listdir(folder)),
        "value": tried(lambda: open(folder + "/token").read()),
        "write": tried(lambda: open(folder + "/token", "w")),
        "add": tried(lambda: open(folder + "/more", "w")),
        "remove": tried(lambda: os.unlink(folder + "/token")),
    }}
"""


def groups(node: RealNode) -> Groups:
    return Groups(Base(**json.loads(node.settings.cgroups_file.read_text())))


async def logged(node: RealNode, launch: object, text: str) -> bool:
    return any(text in line for line in await node.logged(launch))


async def test_an_instance_over_its_memory_limit_is_replaced_and_its_log_has_the_reason(
    node: RealNode,
) -> None:
    launch = node.launch(EATS, memory_limit=MEMORY)
    neighbour = await node.client.start(node.launch(memory_limit=MEMORY))
    running = await node.client.start(launch)
    assert await call(running, f"/?bytes={20 * 2**20}") == str(20 * 2**20)
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await call(running, f"/?bytes={200 * 2**20}")
    await until(lambda: logged(node, launch, "instance ended: out of memory: it needed more than its limit of 64 MiB"))
    assert await call(running, "/?bytes=1") == "1"
    (pid,) = [found.pid for found in await node.client.instances() if found.launch == neighbour.launch]
    assert pid == neighbour.pid


async def test_files_in_tmp_count_as_memory(node: RealNode) -> None:
    launch = node.launch(EATS_TMP, memory_limit=32 * 2**20)
    running = await node.client.start(launch)
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await call(running)
    await until(lambda: logged(node, launch, "out of memory"))


async def test_a_start_over_the_memory_limit_fails_with_the_reason(node: RealNode) -> None:
    launch = node.launch("EATEN = bytearray(100 * 2**20)\n" + EATS, memory_limit=MEMORY)
    with pytest.raises(StartFailed, match="out of memory: it needed more than its limit of 64 MiB before it was ready"):
        await node.client.start(launch)


async def test_an_instance_survives_a_child_that_hits_the_memory_limit(node: RealNode) -> None:
    running = await node.client.start(node.launch(CHILD_EATS, memory_limit=MEMORY))
    assert await call(running) == str(-signal.SIGKILL)
    assert await call(running) == str(-signal.SIGKILL)


async def test_an_instance_has_at_most_512_processes_and_others_can_fork(node: RealNode) -> None:
    running = await node.client.start(node.launch(FORKS))
    count, reason = (await call(running, timeout=30)).split(" ", 1)
    assert 400 < int(count) < 512
    assert reason == "Resource temporarily unavailable"
    assert await call(await node.client.start(node.launch())) == "hello"


async def test_an_instance_gets_no_more_cpu_than_its_limit(node: RealNode) -> None:
    running = await node.client.start(node.launch(SPINS, cpu_limit=200))
    assert float(await call(running)) < 0.4  # of one second: 0.2 and the rest of a period


async def test_an_instance_reads_its_secrets_and_cannot_change_them(node: RealNode) -> None:
    folder = node.settings.function_secrets / "ns"
    folder.mkdir(parents=True)
    (folder / "token").write_text("s3cret")
    (folder / "other").write_text("not for it")
    running = await node.client.start(node.launch(SECRETS, secrets=("token",)))
    refused = "PermissionError"
    assert json.loads(await call(running)) == {
        "folder": "/var/openfaas/secrets", "names": ["token"], "value": "s3cret",
        "write": refused, "add": refused, "remove": refused,
    }  # fmt: skip
    notes = "".join(path.read_text() for path in node.settings.instance_state.glob("*.json"))
    assert "s3cret" not in notes
    assert b"s3cret" not in Path(f"/proc/{running.pid}/environ").read_bytes()


async def test_a_missing_secret_fails_the_start_with_its_name(node: RealNode) -> None:
    with pytest.raises(StartFailed, match="its secret 'token' cannot be read: No such file"):
        await node.client.start(node.launch(secrets=("token",)))


LISTENS = """
import os, socket
listener = socket.create_server(("0.0.0.0", 18099))
def handle(event, context):
    if "to" not in event.query:
        return str(os.getuid())
    try:
        socket.create_connection((event.query["to"], 18099), 2).close()
    except OSError as error:
        return type(error).__name__
    return "connected"
"""


async def test_each_instance_has_every_port_to_itself(node: RealNode) -> None:
    launches = [node.launch(LISTENS), node.launch(LISTENS)]
    one, other = [await node.client.start(launch) for launch in launches]
    for running in (one, other):
        socket.create_connection((address_of(running.uid), 18099), 2).close()
        assert await call(running, f"/?to={address_of(running.uid)}") == "connected"
        assert await call(running, "/?to=127.0.0.1") == "connected"  # its own listener
    assert await call(one, f"/?to={address_of(other.uid)}") == "PermissionError"


# -- leftovers and spares


async def test_the_groups_of_an_instance_end_with_it(node: RealNode) -> None:
    running = await node.client.start(node.launch())
    note = json.loads((node.settings.instance_state / f"{running.launch.instance}.json").read_text())
    assert note["sandbox"] in groups(node).names()
    await node.client.stop(running.launch.instance)
    assert note["sandbox"] not in groups(node).names()


def spares(node: RealNode) -> list[int]:
    """Return the pids of waiting forks in the sandboxes of this node."""
    pids = [pid for name in groups(node).names() for pid in groups(node).processes(name)]
    return [pid for pid in pids if Path(f"/proc/{pid}/comm").read_text() == "rescoldo-spare\n"]


async def test_killed_spares_are_replaced_and_their_sandboxes_removed(node: RealNode) -> None:
    await until(lambda: len(spares(node)) == node.settings.spares)
    before = groups(node).names()
    for pid in spares(node):
        os.kill(pid, signal.SIGKILL)
    assert await call(await node.client.start(node.launch())) == "hello"
    await until(lambda: len(spares(node)) == node.settings.spares)
    await until(lambda: not groups(node).names() & before)


async def test_a_fork_for_an_instance_that_is_stopped_meanwhile_leaves_no_group() -> None:
    node = RealNode(spares=0, spares_memory=0)
    try:
        await node.boot()
        launch = node.launch()
        running = await node.client.start(launch)
        os.kill(node.zygote(), signal.SIGSTOP)
        os.kill(running.pid, signal.SIGKILL)
        await until(lambda: not groups(node).names())  # the node removes its remains and then replaces it
        for _ in range(3):  # after some turns of its loop the node has asked for the replacing fork
            await node.client.instances()
        await node.client.stop(launch.instance)
        os.kill(node.zygote(), signal.SIGCONT)
        other = await node.client.start(node.launch())  # forks come one after the other: the unwanted one is made
        await until(lambda: len(groups(node).names()) == 1)
        assert await call(other) == "hello"
    finally:
        await node.close()


async def test_a_start_whose_spare_was_killed_takes_no_second_spare(node: RealNode) -> None:
    """All spares may have been killed together, and a killed process still looks alive for a while."""
    await until(lambda: len(spares(node)) == node.settings.spares)
    waiting = spares(node)
    for pid in waiting:
        os.kill(pid, signal.SIGSTOP)
    start = asyncio.create_task(node.client.start(node.launch()))
    await until(lambda: bool(noted_pids(node)))
    chosen = noted_pids(node)
    os.kill(chosen[0], signal.SIGKILL)
    await until(lambda: noted_pids(node) not in ([], chosen))
    assert noted_pids(node)[0] not in waiting
    assert await call(await start) == "hello"


def noted_pids(node: RealNode) -> list[int]:
    """Return the pids of the processes that the node has chosen to become instances."""
    notes = [json.loads(path.read_text()) for path in node.settings.instance_state.glob("*.json")]
    return [note["pid"] for note in notes if note.get("pid")]


async def test_a_burst_of_starts_grows_the_pool_of_spares(node: RealNode) -> None:
    await until(lambda: len(spares(node)) == node.settings.spares)
    burst = 3 * node.settings.spares
    started = await asyncio.gather(*(node.client.start(node.launch()) for _ in range(burst)))
    pool = await node.client.spares()
    assert node.settings.spares < pool.wanted <= burst
    await until(lambda: len(spares(node)) == pool.wanted)
    await asyncio.gather(*(node.client.stop(running.launch.instance) for running in started))


async def test_failed_starts_do_not_grow_the_pool_of_spares(node: RealNode) -> None:
    broken = (node.client.start(node.launch("raise RuntimeError\n")) for _ in range(3 * node.settings.spares))
    failures = await asyncio.gather(*broken, return_exceptions=True)
    assert {type(failure) for failure in failures} == {StartFailed}
    assert (await node.client.spares()).wanted == node.settings.spares


async def test_replacements_do_not_grow_the_pool_of_spares() -> None:
    node = RealNode(spares=2)

    async def filled() -> bool:
        return (await node.client.spares()).ready == 2

    try:
        await node.boot()
        for _ in range(8):
            await until(filled)
            await node.client.start(node.launch())
        before = {running.pid for running in await node.client.instances()}
        for pid in before:
            os.kill(pid, signal.SIGKILL)

        async def replaced() -> bool:
            pids = {running.pid for running in await node.client.instances()}
            return len(pids) == len(before) and not pids & before

        await until(replaced)
        assert (await node.client.spares()).wanted == 2
    finally:
        await node.close()


async def test_without_memory_for_more_the_pool_of_spares_does_not_grow() -> None:
    node = RealNode(spares_memory=0)
    try:
        await node.boot()
        started = await asyncio.gather(*(node.client.start(node.launch()) for _ in range(12)))
        assert (await node.client.spares()).wanted == node.settings.spares
        await asyncio.gather(*(node.client.stop(running.launch.instance) for running in started))
    finally:
        await node.close()


async def test_spares_outlive_their_zygote_and_become_instances(node: RealNode) -> None:
    await until(lambda: len(spares(node)) == node.settings.spares)
    waiting = spares(node)
    os.kill(node.zygote(), signal.SIGKILL)
    running = await node.client.start(node.launch())
    assert running.pid in waiting
    assert await call(running) == "hello"


async def test_a_zygote_keeps_neither_thread_nor_loop_of_its_practice(node: RealNode) -> None:
    """Its forks would inherit them."""
    await node.client.start(node.launch())
    zygote = Path(f"/proc/{node.zygote()}")
    assert len(list((zygote / "task").iterdir())) == 1
    for link in (zygote / "fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile: the zygote makes spares
            assert "eventpoll" not in str(link.readlink())


async def test_a_new_node_removes_the_sandboxes_that_a_killed_one_left(node: RealNode) -> None:
    kept = await node.client.start(node.launch())
    died = await node.client.start(node.launch())
    left = groups(node).names()  # of both instances and of spares
    node.kill()
    os.kill(died.pid, signal.SIGKILL)
    await node.boot()
    await until(lambda: len(groups(node).names() & left) == 1)
    assert await call(kept) == "hello"


async def test_a_node_that_ends_leaves_no_group(node: RealNode) -> None:
    await node.client.start(node.launch())
    places = Base(**json.loads(node.settings.cgroups_file.read_text())).places
    node.kill(signal.SIGTERM)
    assert not any(Path(place).exists() for place in places)


async def test_mounts_of_an_instance_are_not_visible_outside(node: RealNode) -> None:
    await node.client.start(node.launch())
    mounts = Path("/proc/self/mountinfo").read_text()
    assert "/var/openfaas/secrets" not in mounts
    assert str(node.settings.bundles) not in mounts


def base_of(node: RealNode) -> Base:
    return Base(**json.loads(node.settings.cgroups_file.read_text()))


async def test_all_instances_together_leave_processes_to_the_machine(node: RealNode) -> None:
    await node.client.start(node.launch())
    most = int(Path("/proc/sys/kernel/pid_max").read_text())
    assert 0 < int(Path(base_of(node).folders["pids"], "pids.max").read_text()) <= most - most // 8


async def test_a_memory_limit_that_no_start_can_meet_takes_no_spare(node: RealNode) -> None:
    async def full() -> bool:
        pool = await node.client.spares()
        return pool.ready == pool.wanted

    await until(full)
    spares = base_of(node)
    before = Groups(spares).names()
    with pytest.raises(StartFailed, match=r"limits\.memory is less than the 8 MiB that a start needs"):
        await node.client.start(node.launch(memory_limit=2**20))
    assert Groups(spares).names() == before


FILLS = """
import socket
kept = []
def pair(kind):
    if kind == "unix":
        return socket.socketpair()
    with socket.create_server(("127.0.0.1", 0)) as server:
        one = socket.create_connection(server.getsockname())
        return one, server.accept()[0]
def handle(event, context):
    sent = 0
    for _ in range(400):
        kept.append(pair(event.query["kind"]))
        for end in kept[-1]:
            end.setblocking(False)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**24)
            try:
                while True:
                    sent += end.send(bytes(65536))
            except BlockingIOError:
                pass
    return str(sent)
"""


async def test_buffers_of_sockets_are_bounded_by_the_memory_limit(node: RealNode) -> None:
    launch = node.launch(FILLS, memory_limit=MEMORY)
    running = await node.client.start(launch)
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        assert int(await call(running, "/?kind=tcp", timeout=60)) < MEMORY
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await call(running, "/?kind=unix", timeout=60)
    await until(lambda: logged(node, launch, "out of memory: it needed more than its limit of 64 MiB"))
