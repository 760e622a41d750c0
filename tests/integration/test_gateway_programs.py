"""The programs of a gateway's pod, with a real HAProxy."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rescoldo.gateway import config
from rescoldo.gateway.main import drain, run_agent
from rescoldo.gateway.pods import PODS, WORKERS
from rescoldo.kube.fake import FakeCluster
from rescoldo.model.errors import EdgeUnavailable
from support.patience import until
from support.real_edge import Message, ok
from support.real_gateway import P0, RealGateway

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]

COMMAND = """\
import sys
from rescoldo.cli.verbs import kubernetes_parts
sys.exit(getattr(kubernetes_parts, sys.argv[1]).main(sys.argv[2:], standalone_mode=False) or 0)
"""


async def run(command: str, *words: str) -> asyncio.subprocess.Process:
    """Start one of the commands of a gateway's pod."""
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", COMMAND, f"{command}_command", *words, stderr=asyncio.subprocess.DEVNULL
    )


@pytest.fixture
async def real() -> AsyncIterator[RealGateway]:
    async with RealGateway(slowstart=0.2) as made:
        yield made


async def test_haproxy_and_agent_start_in_any_order_and_the_agent_stops_when_asked() -> None:
    real = RealGateway(slowstart=0.2)
    try:
        real.process = await run("gateway", "--folder", str(real.folder))
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


async def test_a_haproxy_that_is_not_configured_yet_ends_when_it_is_asked_to(tmp_path: Path) -> None:
    waiting = await run("gateway", "--folder", str(tmp_path))
    await until(lambda: handles(waiting.pid, signal.SIGTERM))
    waiting.terminate()
    assert await waiting.wait() == 0


def handles(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler for a signal."""
    status = Path(f"/proc/{pid}/status").read_text()
    (caught,) = [line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:")]
    return bool(int(caught, 16) >> (number - 1) & 1)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="a PID namespace needs root")
async def test_haproxy_ends_when_it_is_asked_to_as_the_first_process_of_its_container(real: RealGateway) -> None:
    await real.kill()
    code = ("-c", COMMAND, "gateway_command", "--folder", str(real.folder))
    outside = await asyncio.create_subprocess_exec(
        "unshare", "--pid", "--fork", "--kill-child", sys.executable, *code, stderr=asyncio.subprocess.DEVNULL
    )
    await until(real.answers)
    (first,) = Path(f"/proc/{outside.pid}/task/{outside.pid}/children").read_text().split()
    try:
        await until(lambda: handles(int(first), signal.SIGTERM), 5)
        os.kill(int(first), signal.SIGTERM)
        async with asyncio.timeout(10):
            await outside.wait()
    finally:
        if outside.returncode is None:
            outside.kill()
            await outside.wait()
    assert not await real.answers()


async def test_the_command_that_drains_ends_with_the_last_call_and_says_whether_calls_are_cut(
    real: RealGateway,
) -> None:
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
    folder = ("--folder", str(real.folder), "--drain", "0.1s")
    cut = await run("gateway_drain", *folder, "--drain-timeout", "0.5s")
    assert await cut.wait() == 1
    patient = await run("gateway_drain", *folder)
    await until(lambda: leaves(real))
    gate.set()
    assert await patient.wait() == 0
    assert (await call).text == "late"


async def test_a_haproxy_that_ends_while_it_drains_has_no_calls(real: RealGateway) -> None:
    gate, waiting = asyncio.Event(), asyncio.Event()

    async def respond(_: Message) -> None:
        waiting.set()
        await gate.wait()

    await real.proxy.set_map(config.POOLS, {"blue": "p0", "*": "1"})
    await real.worker("w1", respond)
    await real.place("w1")
    call = asyncio.create_task(real.call("/function/fn.blue", method="POST", body=b"x"))
    await waiting.wait()
    draining = asyncio.create_task(drain(real.proxy, 0.0, 30.0))
    await until(lambda: leaves(real))
    await real.kill()
    assert await draining is True
    await asyncio.gather(call, return_exceptions=True)
    gate.set()
    with pytest.raises(EdgeUnavailable):
        await drain(real.proxy, 0.0, 30.0)


async def test_a_name_of_control_without_an_address_keeps_no_gateway_away() -> None:
    async with RealGateway(slowstart=0.2, control="no-such-host.invalid:8080") as real:
        await real.worker("w1")
        await real.know({"blue": P0})
        await real.place("w1")
        await until(lambda: answers(real, "/function/fn.blue", 200))
        assert (await real.call("/system/info")).status == 503
        await real.proxy.set_control(real.control.place.ip, real.control.place.port)
        await until(lambda: answers(real, "/system/info", 200))


async def answers(real: RealGateway, path: str, status: int) -> bool:
    return (await real.call(path)).status == status
