"""Requests that wait in the socket of an instance that has ended, at a real node."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from rescoldo.model.instance import RunningInstance
from rescoldo.node.protocol import Exit

sys.path.insert(0, str(Path(__file__).parents[1]))
from support.real_node import RealNode, until

pytestmark = pytest.mark.slow
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

MEMORY = 64 * 2**20
COUNTS = """
import os
def handle(event, context):
    print("RUN", event.path, event.body.decode(), flush=True)
    if event.path == "/eats":
        bytearray(200 * 2**20)
    if event.path == "/ends":
        os._exit(7)
    return f"{event.method} {event.path} {event.body.decode()}"
"""


async def send(
    running: RunningInstance, path: str, method: str = "GET", body: bytes = b"", began: float | None = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Send a request as the edge does; `began` is its arrival at the edge."""
    reader, writer = await asyncio.open_unix_connection(running.address.removeprefix("unix@"))
    start = int((time.time() if began is None else began) * 1e6) * 1000
    told = f"X-Call-Id: id-of-{path[1:]}\r\nX-Start-Time: {start}\r\nContent-Length: {len(body)}\r\n"
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\n{told}"
    writer.write(head.encode() + (b"Connection: close\r\n" if method == "POST" else b"") + b"\r\n" + body)
    return reader, writer


async def answer(connection: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> tuple[int, str]:
    """Return status and body, or (0, "") for a connection that ends without a byte."""
    reader, writer = connection
    try:
        async with asyncio.timeout(15):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(head.partition("content-length:")[2].split()[0])
            return int(head.split()[1]), (await reader.readexactly(length)).decode()
    except (asyncio.IncompleteReadError, ConnectionResetError):
        return 0, ""
    finally:
        writer.close()


async def runs(node: RealNode, running: RunningInstance) -> list[str]:
    return [line for line in await node.logged(running.launch) if line.startswith("RUN")]


@pytest.mark.root
@needs_root
async def test_a_call_that_ran_out_of_memory_is_not_retried_and_waiting_ones_run(node: RealNode) -> None:
    running = await node.client.start(node.launch(COUNTS, memory_limit=MEMORY))
    began = time.time()
    assert await answer(await send(running, "/eats")) == (0, "")
    repeated = await send(running, "/eats", began=began)
    fresh = [await send(running, f"/{method}", method, b"mine", time.time() + 1) for method in ("GET", "PUT")]
    post = await send(running, "/post", "POST", b"mine", began=began)
    status, text = await answer(repeated)
    assert status == 502
    assert text == (
        "the function's instance ended before its response was complete: out of memory: it needed more than its limit "
        "of 64 MiB; the call is not retried\n"
    )
    assert [await answer(one) for one in fresh] == [(200, "GET /GET mine"), (200, "PUT /PUT mine")]
    assert await answer(post) == (200, "POST /post mine")
    why = "its instance ended: out of memory: it needed more than its limit of 64 MiB; the call is not retried"
    assert f"call id-of-eats failed: {why}" in await node.logged(running.launch)
    [failed] = await node.client.failures(running.launch.function)
    assert (failed.call_id, failed.instance, failed.status) == ("id-of-eats", running.launch.instance, 502)
    assert failed.reason == why
    assert sorted(await runs(node, running)) == ["RUN /GET mine", "RUN /PUT mine", "RUN /eats ", "RUN /post mine"]


async def test_after_an_exit_a_retried_call_waits_for_the_successor(node: RealNode) -> None:
    running = await node.client.start(node.launch(COUNTS))
    began = time.time()
    assert await answer(await send(running, "/ends")) == (0, "")
    assert await answer(await send(running, "/again", began=began)) == (200, "GET /again ")


async def test_requests_that_wait_for_a_failed_successor_get_its_reason(node: RealNode) -> None:
    exits: list[Exit] = []
    watching = asyncio.create_task(node.client.watch(exits.append, lambda: None))
    running = await node.client.start(node.launch(COUNTS))
    handler = node.settings.bundles / running.launch.digest / "function" / "handler.py"
    handler.write_text("raise ValueError('never again')\n")
    os.kill(running.pid, signal.SIGKILL)
    waits = [await send(running, "/waits"), await send(running, "/waits", "POST", b"mine")]
    for one in waits:
        status, text = await answer(one)
        assert status == 502
        assert "its replacement failed" in text
        assert text.count("\n") == 1
    await until(lambda: exits)
    watching.cancel()
