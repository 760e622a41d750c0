"""A worker's edge takes requests with its pool's secret alone; against a real HAProxy."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rescoldo.edge import config
from rescoldo.edge.config import POOL_SECRETS, map_file
from rescoldo.edge.pool import PoolSecrets
from rescoldo.edge.protocol import EdgeState, LiveServer, Route
from rescoldo.model.access import UNPROVEN
from rescoldo.model.errors import InvalidInput
from rescoldo.model.names import FunctionId, SlotName, function_id
from support.real_edge import S1, Instance, Message, RealEdge, ok

FN = function_id("fn")
SECRET, NEXT = "present-secret-of-the-pool", "next-secret-of-the-pool"
OPEN = {"X-Rescoldo-Pool": SECRET}


class Worker(RealEdge):
    """A worker's edge with one awake function, `fn`, and one instance."""

    one: Instance

    def __init__(self, identity: Path) -> None:
        super().__init__(join="https://control:8443", identity=str(identity))
        self.file = identity / "pool-secret"
        self.pool = PoolSecrets(self.file, self.admin, map_file(self.settings, POOL_SECRETS))
        self.requests: list[Message] = []

    async def answer(self, request: Message) -> bytes:
        self.requests.append(request)
        return ok("one")

    async def status(self, path: str = "/function/fn", secret: str | None = SECRET, address: str = "") -> int:
        client = await self.connect(address)
        headers = {} if secret is None else {"X-Rescoldo-Pool": secret}
        return (await client.call(path, headers=headers)).status


@pytest.fixture
async def worker(tmp_path: Path) -> AsyncIterator[Worker]:
    (tmp_path / "pool-secret").write_text(f"{SECRET}\n")
    async with Worker(tmp_path) as real:
        real.one = await real.place("s1", "one", real.answer)
        await real.edge.set_route(Route(FN, S1))
        yield real


@pytest.mark.parametrize("path", ["/function/fn", "/function/other", "/system/functions", "/healthz", "/", "/build"])
@pytest.mark.parametrize("secret", [None, "", NEXT, f"{SECRET}x", f"{SECRET} 1", SECRET.upper(), f"{SECRET}, other"])
async def test_a_request_without_the_pools_secret_is_refused_with_the_reason(
    worker: Worker, path: str, secret: str | None
) -> None:
    headers = {} if secret is None else {"X-Rescoldo-Pool": secret}
    answer = await worker.call(path, headers=headers, method="POST", body=b"body")
    assert (answer.status, answer.text) == (403, UNPROVEN)
    assert (worker.requests, worker.api, worker.asked) == ([], [], [])


async def test_a_refused_request_is_not_counted_as_a_call(worker: Worker) -> None:
    assert await worker.status(secret=None) == 403
    assert await worker.status() == 200
    await worker.until(lambda: worker.calls)
    assert [(key.function, key.status) for key in worker.calls] == [(FN, 200)]


async def test_neither_secret_nor_other_headers_of_that_kind_reach_function_and_api(worker: Worker) -> None:
    given = {**OPEN, "X-Rescoldo-Control": "x", "X-Rescoldo-Key": "y", "X-Rescoldo-Revision": "7", "X-Other": "kept"}
    assert (await worker.call("/function/fn", headers=given)).status == 200
    assert (await worker.call("/system/functions", headers=given)).status == 200
    called, asked = worker.requests[0].headers, worker.api[0].headers
    assert called["x-other"] == asked["x-other"] == "kept"
    assert [name for name in (*called, *asked) if name.startswith("x-rescoldo-")] == ["x-rescoldo-function"]
    assert called["x-rescoldo-function"] == FN


async def test_probes_need_no_secret_but_metrics_do(worker: Worker) -> None:
    metrics = worker.settings.metrics
    assert [await worker.status(path, None, metrics) for path in ("/healthz", "/metrics", "/other")] == [200, 403, 403]
    assert [await worker.status(path, SECRET, metrics) for path in ("/metrics", "/other")] == [200, 404]
    assert [request.path for request in worker.api] == ["/healthz", "/-/metrics"]


async def test_a_secret_that_is_added_counts_and_one_that_is_dropped_does_not(worker: Worker) -> None:
    worker.file.write_text(f"{NEXT}\n{SECRET}\n")
    await worker.pool.look()
    assert [await worker.status(secret=secret) for secret in (SECRET, NEXT)] == [200, 200]
    worker.file.write_text(f"{NEXT}\n")
    await worker.pool.look()
    assert [await worker.status(secret=secret) for secret in (SECRET, NEXT)] == [403, 200]


async def test_a_running_edge_gets_the_secrets_that_kubelet_mounts_anew(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rescoldo.edge.pool.LOOK_SECONDS", 0.01)
    mount(worker.file, SECRET)
    running = asyncio.create_task(worker.pool.run())
    mount(worker.file, NEXT)
    await worker.until(lambda: opens(worker, NEXT))
    running.cancel()
    assert await worker.status(secret=SECRET) == 403


def mount(file: Path, text: str) -> None:
    """Put a version of the Secret in place as kubelet does: by a link to its folder, which is replaced."""
    version, data, fresh = file.with_name(f"..{text}"), file.with_name("..data"), file.with_name("..data_tmp")
    version.mkdir()
    (version / file.name).write_text(text)
    fresh.symlink_to(version.name)
    fresh.replace(data)
    if not file.is_symlink():
        file.unlink()
        file.symlink_to(f"{data.name}/{file.name}")


async def opens(worker: Worker, secret: str) -> bool:
    return await worker.status(secret=secret) == 200


@pytest.mark.parametrize("content", [None, "", "short\n", f"{SECRET}\nwith space in it\n", "\0" * 20, "ä" * 20])
async def test_secrets_that_cannot_be_read_change_nothing(
    worker: Worker, content: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    if content is None:
        worker.file.unlink()
    else:
        worker.file.write_text(content)
    with pytest.raises(InvalidInput, match="pool-secret"):
        await worker.pool.look()
    assert await worker.status() == 200
    with caplog.at_level(logging.ERROR):
        await worker.restart()  # the map's file has the last good ones
    assert "keeps the pool's secrets" in caplog.text and SECRET not in caplog.text
    assert await worker.status("/healthz") == 200


async def test_a_new_process_knows_the_secrets_before_any_controller_tells_it(worker: Worker) -> None:
    worker.file.write_text(f"{NEXT}\n")
    await worker.restart()
    assert [await worker.status("/healthz", secret) for secret in (SECRET, NEXT)] == [403, 200]


async def test_a_held_call_passes_to_the_edges_next_process(worker: Worker) -> None:
    sleeping, gate = function_id("sleeping"), asyncio.Event()

    async def wake(_: FunctionId) -> SlotName:
        await gate.wait()
        return S1

    worker.wake = wake
    client = await worker.connect()
    client.send("/function/sleeping", headers=OPEN)
    await worker.until(lambda: worker.asked == [sleeping])
    one = LiveServer(S1, worker.one.name, worker.one.address, 100)
    await worker.reload([one], routes=f"* 1\n{sleeping} s1\n")
    gate.set()
    answer = await client.receive()
    assert (answer.status, answer.text, answer.headers["x-cold-start"]) == (200, "one", "true")
    assert "x-rescoldo-pool" not in worker.requests[0].headers


async def test_the_edge_of_a_platform_that_stands_alone_asks_for_no_secret() -> None:
    async with RealEdge() as alone:
        one = await alone.place("s1", "one")
        await alone.edge.synchronise(
            lambda: EdgeState((Route(FN, S1),), (LiveServer(S1, one.name, one.address, 100),))
        )
        assert (await alone.call("/function/fn", headers={"X-Rescoldo-Own": "kept"})).status == 200
        assert one.requests[0].headers["x-rescoldo-own"] == "kept"
        assert (await alone.call("/system/functions")).status == 200
        assert config.map_file(alone.settings, POOL_SECRETS).read_text() == ""
