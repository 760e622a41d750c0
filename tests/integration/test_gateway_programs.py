"""The programs of a gateway's pod, with a real HAProxy."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import asdict

import pytest

from rescoldo.gateway import config
from rescoldo.gateway.main import drain, run_agent
from rescoldo.gateway.pods import PODS, WORKERS
from rescoldo.kube.fake import FakeCluster
from support.patience import until
from support.real_edge import Message, ok
from support.real_gateway import RealGateway

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]

PROXY = """\
import json, sys
from pathlib import Path
from rescoldo.gateway.config import GatewaySettings
from rescoldo.gateway.main import become_proxy
values = json.loads(sys.argv[1])
become_proxy(GatewaySettings(**{**values, "folder": Path(values["folder"])}))
"""


@pytest.fixture
async def real() -> AsyncIterator[RealGateway]:
    async with RealGateway(slowstart=0.2) as made:
        yield made


async def test_haproxy_and_agent_start_in_any_order_and_the_agent_stops_when_asked() -> None:
    real = RealGateway(slowstart=0.2)
    try:
        values = {**asdict(real.settings), "folder": str(real.settings.folder)}
        real.process = await asyncio.create_subprocess_exec(sys.executable, "-c", PROXY, json.dumps(values))
        cluster, stop = FakeCluster(), asyncio.Event()
        worker = await real.worker("w1")
        meta = {"name": "w1", "namespace": "blue", "labels": dict(part.split("=") for part in WORKERS.split(","))}
        await cluster.create(PODS, {"metadata": meta, "status": {"podIP": worker.place.ip, "phase": "Running"}})
        secrets = real.folder / "secrets"
        (secrets / "pools").mkdir(parents=True)
        (secrets / "pools" / "blue").write_text("a-secret-of-blue")
        running = asyncio.create_task(run_agent(real.settings, cluster, secrets, stop))
        await until(real.answers)
        await until(lambda: takes_part(real))
        assert (await real.call("/function/fn.blue")).text == "w1"
        assert worker.requests[-1].headers["x-rescoldo-pool"] == "a-secret-of-blue"
        name = (await asyncio.to_thread(os.readlink, f"/proc/{real.process.pid}/exe")).rpartition("/")[2]
        assert name.startswith("haproxy"), "no Python of ours stays beside HAProxy"
        stop.set()
        await running
        assert (await real.call("/function/fn.blue")).text == "w1"
    finally:
        await real.close()


async def takes_part(real: RealGateway) -> bool:
    return (await real.call("/healthz")).status == 200


async def test_a_gateway_that_drains_serves_on_until_its_last_call_has_ended(real: RealGateway) -> None:
    gate, waiting = asyncio.Event(), asyncio.Event()

    async def respond(_: Message) -> bytes:
        waiting.set()
        await gate.wait()
        return ok("late")

    await real.proxy.set_map(config.POOLS, {"blue": "p0", "*": "1"})
    await real.worker("w1", respond)
    await real.place("w1")
    call = asyncio.create_task(real.call("/function/fn.blue", method="POST", body=b"x"))
    await waiting.wait()
    draining = asyncio.create_task(drain(real.proxy, 0.1, 30.0))
    await until(lambda: leaves(real))
    gate.set()
    assert await draining is True
    assert ((await call).text, (await real.call("/function/fn.blue")).headers["connection"]) == ("late", "close")


async def leaves(real: RealGateway) -> bool:
    return (await real.call("/healthz")).status == 404


async def test_a_drain_ends_in_time_although_calls_go_on(real: RealGateway) -> None:
    gate, waiting = asyncio.Event(), asyncio.Event()

    async def respond(_: Message) -> bytes:
        waiting.set()
        await gate.wait()
        return ok("late")

    await real.proxy.set_map(config.POOLS, {"blue": "p0", "*": "1"})
    await real.worker("w1", respond)
    await real.place("w1")
    call = asyncio.create_task(real.call("/function/fn.blue"))
    await waiting.wait()
    assert await drain(real.proxy, 0.0, 0.3) is False
    gate.set()
    assert (await call).status == 200
