"""Functions that shut down or close their listening socket, at a real node."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from support.real_node import DEAFENS, RealNode, answered, call, deaf_program, socket_of, until, until_replaced

pytestmark = pytest.mark.slow
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

@pytest.mark.root
@needs_root
@pytest.mark.parametrize("how", ["/shut", "/close"])
async def test_a_function_that_takes_no_more_requests_is_replaced_and_no_call_is_lost(node: RealNode, how: str) -> None:
    running = await node.client.start(node.launch(DEAFENS))
    first = await call(running)
    for _ in range(2):
        assert await call(running, how) == first
        begun = time.monotonic()
        answers = await asyncio.gather(*(answered(running) for _ in range(20)))
        assert len(set(answers)) == 1
        assert first not in answers
        assert time.monotonic() - begun < 3
        first = answers[0]
    assert socket_of(running).exists()
    assert [one.launch.instance for one in await node.client.instances()] == [running.launch.instance]
    assert any("instance no longer takes requests: " in line for line in await node.logged(running.launch))


@pytest.mark.root
@needs_root
async def test_a_call_in_an_instance_that_takes_no_more_requests_ends_well(node: RealNode) -> None:
    running = await node.client.start(node.launch(DEAFENS))
    first = await call(running)
    slow = asyncio.create_task(call(running, "/close-and-wait"))
    await until(lambda: not slow.done())
    assert await slow == first
    assert await answered(running) != first


@pytest.mark.root
@needs_root
async def test_an_adopted_instance_that_takes_no_more_requests_is_replaced(node: RealNode) -> None:
    running = await node.client.start(node.launch(DEAFENS))
    first = await call(running)
    node.kill()
    await node.boot()
    assert await call(running, "/shut") == first
    assert await answered(running) != first


async def test_a_busy_instance_that_keeps_others_waiting_is_left_alone(node: RealNode) -> None:
    code = DEAFENS.replace("def handle", "async def handle")  # the blocked loop accepts no connection
    running = await node.client.start(node.launch(code))
    first = await call(running)
    busy = asyncio.create_task(call(running, "/busy"))
    waits = [asyncio.create_task(call(running)) for _ in range(5)]
    assert await busy == first
    assert {await one for one in waits} == {first}


@pytest.mark.root
@needs_root
@pytest.mark.parametrize("how", ["/shut", "/close"])
async def test_a_program_that_gives_up_its_inherited_socket_is_replaced(
    node: RealNode, tmp_path: Path, how: str
) -> None:
    running = await node.client.start(node.program("./server", "inherited", deaf_program(tmp_path)))
    await until_replaced(running, how)
