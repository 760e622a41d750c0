"""Clients that leave before the handler has begun: their calls never begin."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from runtime_process import Client, Instance, wait_until

Run = Callable[..., Instance]

# each call prints a line when it begins, and ends when its file exists
SYNC = """
import pathlib, time
def handle(event, context):
    print("began", event.path, flush=True)
    while not pathlib.Path("go" + event.path[1:]).exists(): time.sleep(0.005)
    return event.path
"""
ASYNC = """
import asyncio, pathlib
async def handle(event, context):
    print("began", event.path, flush=True)
    while not pathlib.Path("go" + event.path[1:]).exists(): await asyncio.sleep(0.005)
    return event.path
"""
DECORATED = """
import functools
def decorated(function):
    @functools.wraps(function)
    def called(*arguments): return function(*arguments)
    return called
""" + ASYNC.replace("async def handle", "@decorated\nasync def handle")
KINDS = {"sync": SYNC, "async": ASYNC, "decorated async": DECORATED}


def call(instance: Instance, path: str, body: bytes = b"") -> Client:
    client = instance.connect()
    client.send(f"POST {path} HTTP/1.1\r\nHost: f\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    return client


def began(instance: Instance) -> list[str]:
    return [line.partition(" ")[2] for line in instance.log().splitlines() if line.startswith("began")]


def let_end(tmp_path: Path, *paths: str) -> None:
    for path in paths:
        (tmp_path / f"go{path[1:]}").touch()


def is_seen(instance: Instance) -> None:
    """Return when the loop has seen everything that was sent before: it answers this request itself, in order."""
    assert instance.get("/_/health").status == 200


@pytest.mark.parametrize("limit", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_a_waiting_call_whose_client_leaves_never_begins(run: Run, tmp_path: Path, kind: str, limit: int) -> None:
    instance = run(KINDS[kind], concurrency=limit)
    running = [call(instance, f"/run{n}") for n in range(limit)]
    wait_until(lambda: len(began(instance)) == limit)
    leavers = [call(instance, f"/left{n}") for n in range(10)]
    is_seen(instance)
    patient = call(instance, "/patient")
    is_seen(instance)
    for client in leavers:
        client.close()
    is_seen(instance)
    let_end(tmp_path, "/patient", *(f"/run{n}" for n in range(limit)))
    assert patient.answer().text == "/patient"
    assert {client.answer().status for client in running} == {200}
    assert sorted(began(instance)) == ["/patient", *(f"/run{n}" for n in range(limit))]
    assert "never awaited" not in instance.log()


@pytest.mark.parametrize("kind", KINDS)
def test_a_call_whose_client_left_while_it_ran_counts_until_it_ends(run: Run, tmp_path: Path, kind: str) -> None:
    instance = run(KINDS[kind], concurrency=1)
    leaver = call(instance, "/left")
    wait_until(lambda: began(instance) == ["/left"])
    leaver.close()
    patient = call(instance, "/patient")
    let_end(tmp_path, "/patient")
    is_seen(instance)
    time.sleep(0.05)  # otherwise the call would have begun
    assert began(instance) == ["/left"]
    let_end(tmp_path, "/left")
    assert patient.answer().text == "/patient"


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_client_that_closes_only_its_sending_half_is_answered(run: Run, tmp_path: Path, kind: str) -> None:
    instance = run(KINDS[kind], concurrency=1)
    running, half = call(instance, "/run"), call(instance, "/half")
    half.socket.shutdown(socket.SHUT_WR)
    is_seen(instance)
    let_end(tmp_path, "/run", "/half")
    assert running.answer().text == "/run"
    assert half.answer().text == "/half"


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_call_never_begins_if_its_client_leaves_after_a_half_close(run: Run, tmp_path: Path, kind: str) -> None:
    instance = run(KINDS[kind], concurrency=1)
    running = call(instance, "/run")
    wait_until(lambda: began(instance) == ["/run"])
    half = call(instance, "/half")
    half.socket.shutdown(socket.SHUT_WR)
    is_seen(instance)  # the instance no longer reads from it, so its leaving has no event
    half.close()
    let_end(tmp_path, "/run", "/half", "/patient")
    assert running.answer().text == "/run"
    assert call(instance, "/patient").answer().text == "/patient"
    assert began(instance) == ["/run", "/patient"]


def test_pipelined_calls_of_a_client_that_left_never_begin(run: Run, tmp_path: Path) -> None:
    instance = run(SYNC, concurrency=4)
    client = instance.connect()
    client.send(b"".join(f"GET /{n} HTTP/1.1\r\nHost: f\r\n\r\n".encode() for n in range(3)))
    wait_until(lambda: began(instance) == ["/0"])
    client.close()
    let_end(tmp_path, "/0", "/1", "/2", "/patient")
    assert call(instance, "/patient").answer().text == "/patient"
    assert began(instance) == ["/0", "/patient"]


BLOCKS = {
    # C code that does not release the interpreter
    "sync": "def handle(event, context):\n    return here(event, lambda: sum(range(40_000_000)))",
    "async": "async def handle(event, context):\n    return here(event, lambda: time.sleep(0.7))",
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", BLOCKS)
def test_calls_of_clients_that_leave_while_the_loop_blocks_never_begin(run: Run, kind: str) -> None:
    """The instance has read neither their requests nor their leaving, and has not accepted some of the connections."""
    instance = run(
        f"""
import time
def here(event, block):
    print("began", event.path, flush=True)
    if event.path == "/block": block()
    return event.path
{BLOCKS[kind]}
""",
        concurrency=1,
    )
    known = instance.connect()
    assert known.ask("/first").text == "/first"
    blocking = call(instance, "/block")
    wait_until(lambda: "/block" in began(instance))
    known.send(b"GET /left HTTP/1.1\r\nHost: f\r\n\r\n")
    for client in [known, *(call(instance, "/left") for _ in range(5))]:
        client.close()
    patient = call(instance, "/patient")
    assert blocking.answer().text == "/block"
    assert patient.answer().text == "/patient"
    assert began(instance) == ["/first", "/block", "/patient"]


def resident(instance: Instance) -> int:
    """Return the instance's resident bytes; before its first call it shares them with this process."""
    return int(Path(f"/proc/{instance.pid}/statm").read_text().split()[1]) * 4096


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many_clients_that_leave_while_they_wait_cost_no_memory(run: Run, tmp_path: Path, kind: str) -> None:
    instance = run(KINDS[kind], concurrency=1, exec_timeout=60.0)
    running = call(instance, "/run")
    wait_until(lambda: began(instance) == ["/run"])
    body, before = b"x" * 2**20, resident(instance)
    for _ in range(200):
        client = call(instance, "/left", body)
        is_seen(instance)
        client.close()
        instance.clients.remove(client)
    is_seen(instance)
    assert resident(instance) < before + 100 * 2**20
    let_end(tmp_path, "/run", "/patient")
    assert running.answer().text == "/run"
    assert call(instance, "/patient").answer().text == "/patient"
    assert began(instance) == ["/run", "/patient"]
