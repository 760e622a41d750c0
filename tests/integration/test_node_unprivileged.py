"""A node without root: these tests run as root and start it as another user."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from rescoldo.isolation.interpreter import needed_directories, python_command
from rescoldo.isolation.mounts import View
from rescoldo.model.instance import Launch

sys.path.insert(0, str(Path(__file__).parents[1]))
from support.memory import can_forget, forget_names
from support.real_node import DEAFENS, RealNode, alive, answered, call, deaf_program, until, until_replaced
from support.unprivileged import UID  # not a uid of ours: builds end all processes of theirs

pytestmark = [
    pytest.mark.slow,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user"),
]


def as_another_user(folders: tuple[Path, ...], node: list[str]) -> list[str]:
    for folder in folders:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, UID, UID)
    view = View(read=needed_directories(), write=tuple(map(str, folders)))
    order = {"argv": node, "uid": UID, "gid": UID, "cwd": "/", "view": view.to_json()}
    return python_command("rescoldo.isolation.enter", json.dumps(order))


def for_everyone(node: RealNode, code: str, **more: Any) -> Launch:
    """Return a launch whose bundle the other user may read."""
    launch = node.launch(code, **more)
    give_away(node, launch)
    return launch


def give_away(node: RealNode, launch: Launch) -> None:
    bundle = node.settings.bundles / launch.digest
    for path in (bundle, *bundle.rglob("*")):
        os.chown(path, UID, UID)


@pytest.fixture
async def node() -> AsyncIterator[RealNode]:
    real = RealNode(as_another_user)
    try:
        await real.boot()
        yield real
    finally:
        await real.close()


WHO = "import os\ndef handle(event, context):\n    print('asked')\n    return f'{os.getuid()} {os.getpid()}'\n"


async def test_without_root_instances_start_answer_print_and_stop(node: RealNode) -> None:
    launch = for_everyone(node, WHO)
    running = await node.client.start(launch)
    assert await call(running) == f"{UID} {running.pid}"
    assert running.uid == UID
    assert f"Uid:\t{UID}" in Path(f"/proc/{running.pid}/status").read_text()
    (usage,) = await node.client.usage(launch.function)
    assert usage.memory > 2**20
    await node.client.stop(launch.instance)
    assert not alive(running.pid)
    assert await node.logged(launch) == ["asked"]
    assert list(node.settings.instances.iterdir()) == []


async def test_without_root_instances_are_replaced_and_adopted_too(node: RealNode) -> None:
    running = await node.client.start(for_everyone(node, WHO))
    await until(lambda: time.time() > running.started_at + 1.05)  # old enough to be replaced
    os.kill(running.pid, signal.SIGKILL)
    answer = await call(running)
    assert answer != f"{UID} {running.pid}"
    await until(lambda: node.client.instances())
    (now,) = await node.client.instances()
    assert f"{now.uid} {now.pid}" == answer
    node.kill()
    await node.boot()
    assert await node.client.instances() == [now]
    assert await call(now) == answer


@pytest.mark.parametrize("how", ["/shut", "/close"])
async def test_without_root_an_instance_that_takes_no_more_requests_is_replaced(node: RealNode, how: str) -> None:
    running = await node.client.start(for_everyone(node, DEAFENS))
    first = await call(running)
    for _ in range(2):
        assert await call(running, how) == first
        second = await answered(running)
        assert second != first
        first = second


LOOKS = """
import os, resource
def is_pin(number):
    try:
        return os.readlink(f"/proc/self/fd/{number}") == f"/proc/{os.getpid()}"
    except FileNotFoundError:
        return False
def seen():
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return f"{files} {sum(map(is_pin, range(files)))} {open('/proc/self/status').read()[:5]}"
"""
HANDLER = LOOKS + "def handle(event, context):\n    return seen()\n"
SERVER = """#!{python}
from http.server import BaseHTTPRequestHandler, HTTPServer
import socket
{looks}
class Handler(BaseHTTPRequestHandler):
    def address_string(self):
        return "edge"
    def do_GET(self):
        body = seen().encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
server = HTTPServer(("127.0.0.1", 0), Handler, bind_and_activate=False)
server.socket.close()
server.socket = socket.socket(fileno=3)
server.serve_forever()
"""


@can_forget
@pytest.mark.parametrize("kind", ["handler", "program"])
async def test_without_root_an_instance_reads_proc_after_the_kernel_has_freed_memory(
    node: RealNode, tmp_path: Path, kind: str
) -> None:
    if kind == "handler":
        launch = for_everyone(node, HANDLER, max_files=100, concurrency=7)
    else:
        server, shell = tmp_path / "server", tmp_path / "shell"
        server.write_text(SERVER.format(python=Path(sys.executable).resolve(), looks=LOOKS))
        shell.write_text("#!/bin/sh\nexec ./server\n")
        launch = node.program("./shell", "inherited", server, shell, max_files=100, concurrency=7)
        give_away(node, launch)
    running = await node.client.start(launch)
    first = await call(running)
    assert first.split() == ["108", "1", "Name:"]  # the limit of descriptors does not count the one of ours
    forget_names()
    assert await call(running) == first


@pytest.mark.parametrize("how", ["/shut", "/close"])
async def test_without_root_a_program_that_takes_no_more_requests_is_replaced(
    node: RealNode, tmp_path: Path, how: str
) -> None:
    launch = node.program("./server", "inherited", deaf_program(tmp_path))
    give_away(node, launch)
    running = await node.client.start(launch)
    await until_replaced(running, how)
