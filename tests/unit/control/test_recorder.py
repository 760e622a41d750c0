from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterable
from pathlib import Path

import pytest
from control_world import FN, World

from rescoldo.assembly.reload import EdgeReload
from rescoldo.control.fleet.growth import Growth
from rescoldo.control.fleet.lifetimes import Lifetimes
from rescoldo.control.observe import recorder as module
from rescoldo.control.observe.metrics import Waking, render
from rescoldo.control.observe.recorder import Recorder
from rescoldo.model.calls import CallKey, CallSums
from rescoldo.model.coldstart import ColdCall
from rescoldo.model.errors import StoreError
from rescoldo.model.names import FunctionId, InstanceId
from rescoldo.model.settings import Settings
from rescoldo.node.protocol import SparePool
from rescoldo.store.memory import MemoryStore
from rescoldo.store.protocol import Condition, MinuteUsage


class Flaky(MemoryStore):
    """Refuses usage while `full`."""

    full = False

    async def add_usage(self, rows: Iterable[MinuteUsage]) -> None:
        if self.full:
            raise StoreError("disk full")
        await super().add_usage(rows)


def calls(count: int, *, minute: int = 1, status: int = 200) -> dict[CallKey, CallSums]:
    buckets = [count] + [0] * 11
    return {CallKey(FN, minute, status, False): CallSums(count, count, count, count, count, buckets)}


def recorder(store: MemoryStore, seen: list[tuple[FunctionId, int]] | None = None) -> Recorder:
    return Recorder(store, lambda function, count: None if seen is None else seen.append((function, count)))


async def test_calls_of_one_kind_add_up_to_one_row() -> None:
    store, seen = MemoryStore(), list[tuple[FunctionId, int]]()
    made = recorder(store, seen)
    made.record(calls(2))
    made.record(calls(3))
    await made.flush()
    await made.flush()
    assert await store.usage(None, 0) == [MinuteUsage(FN, 1, 200, False, 5, 5, 5, 5, 5)]
    assert seen == [(FN, 2), (FN, 3)]


async def test_usage_that_the_store_refused_is_written_with_later_usage() -> None:
    store = Flaky()
    made = recorder(store)
    store.full = True
    made.record(calls(2))
    await made.flush()
    made.record(calls(3))
    await made.flush()
    store.full = False
    await made.flush()
    assert await store.invocations() == {FN: 5}
    assert made.invocations() == {FN: 5}


async def test_pending_usage_is_bounded_and_the_oldest_is_dropped_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PENDING", 3)
    store = Flaky()
    made = recorder(store)
    store.full = True
    for minute in range(5):
        made.record(calls(1, minute=minute))
        await made.flush()
    store.full = False
    await made.flush()
    assert [row.minute for row in await store.usage(None, 0)] == [2, 3, 4]


async def test_counts_continue_from_those_of_earlier_runs() -> None:
    store = MemoryStore()
    first = recorder(store)
    first.record(calls(4))
    await first.flush()
    second = recorder(store)
    await second.load()
    second.record(calls(1))
    assert (second.invocations(), second.run_totals()) == ({FN: 5}, {FN: 1})


@pytest.mark.looptime
async def test_calls_are_written_about_once_a_second(world: World) -> None:
    await world.deploy()
    world.recorder.record(calls(1))
    await asyncio.sleep(1.1)
    assert await world.store.invocations() == {FN: 1}
    world.recorder.record(calls(1))
    await asyncio.sleep(1.1)
    assert await world.store.invocations() == {FN: 2}


@pytest.mark.looptime
async def test_counts_are_kept_for_35_days_by_minute_for_3_and_totals_for_ever(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    day = 1440
    await world.deploy()
    monkeypatch.setattr("time.time", lambda: 100 * day * 60.0 + 1799)
    for minute in (65 * day - 1, 65 * day, 97 * day - 1, 97 * day + 1, 100 * day + 1):
        world.recorder.record(calls(1, minute=minute))
    await asyncio.sleep(1.1)
    kept = [row.minute for row in await world.store.usage(None, 0)]
    assert kept == [65 * day, 97 * day - 60, 97 * day + 1, 100 * day + 1]
    assert await world.store.invocations() == {FN: 5}
    monkeypatch.setattr("time.time", lambda: 101 * day * 60.0)
    world.recorder.record(calls(1, minute=101 * day))
    await asyncio.sleep(1.1)
    assert len(await world.store.usage(None, 0)) == 5, "the recorder prunes once an hour"
    await asyncio.sleep(3600)
    world.recorder.record(calls(1, minute=101 * day))
    await asyncio.sleep(1.1)
    kept = [row.minute for row in await world.store.usage(None, 0)]
    assert kept == [97 * day - 60, 97 * day, 100 * day + 1, 101 * day]


@pytest.mark.looptime
async def test_only_the_number_of_calls_of_a_removed_function_is_kept(world: World) -> None:
    await world.deploy()
    world.recorder.record(calls(2))
    world.recorder.record(calls(3, status=500))
    await asyncio.sleep(1.1)
    await world.removals.remove(FN)
    await asyncio.sleep(1.0)
    assert world.recorder.run_totals() == {}
    await world.deploy()
    world.recorder.record(calls(1))
    assert (await world.statuses.function(FN)).invocations == 6


@pytest.mark.looptime
async def test_a_new_function_with_the_name_of_a_removed_one_starts_from_zero(world: World) -> None:
    await world.deploy()
    world.recorder.record(calls(2))
    await world.removals.remove(FN)
    world.recorder.record(calls(3))  # calls that end late
    await world.deploy()
    await asyncio.sleep(1.0)
    assert world.recorder.run_totals() == {}
    assert world.recorder.invocations() == {FN: 5}


async def test_calls_of_names_that_are_not_deployed_are_not_counted(world: World) -> None:
    world.recorder.record(calls(2))
    world.recorder.record_cold([ColdCall(FN, 1, 1, 1, 1, 1, 1)])
    await world.recorder.flush()
    assert world.recorder.invocations() == await world.store.invocations() == {}
    assert world.recorder.cold.of(FN).calls == 0


@pytest.mark.looptime
async def test_a_removed_function_is_forgotten_with_its_last_counts(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.time", lambda: 7200.0)
    await world.deploy()
    world.recorder.record(calls(2, minute=60))
    await world.recorder.flush()
    await world.removals.remove(FN)
    await asyncio.sleep(1.0)
    await world.recorder.prune(35 * 86400 + 7199)
    assert world.recorder.invocations() == {FN: 2}
    await world.recorder.prune(35 * 86400 + 7200)
    assert world.recorder.invocations() == {}


async def test_metrics_have_the_names_and_labels_of_openfaas() -> None:
    made = recorder(MemoryStore())
    made.record(calls(3, status=418))
    lifetimes = Lifetimes()
    now = asyncio.get_running_loop().time()
    lifetimes.began(FN, InstanceId("fn-1"), now - 2.0)
    text = (await render(made, {FN: 2}, lifetimes, Waking(0, 0, 0, {}), SparePool(4, 6, 90), {}, Condition())).decode()
    assert f'gateway_function_invocation_total{{code="418",function_name="{FN}"}} 3.0' in text
    assert f'gateway_functions_seconds_bucket{{code="418",function_name="{FN}",le="0.005"}} 3.0' in text
    assert f'gateway_functions_seconds_count{{code="418",function_name="{FN}"}} 3.0' in text
    assert f'gateway_service_count{{function_name="{FN}"}} 2.0' in text
    assert "# TYPE gateway_function_invocation_started counter\n" in text
    assert "# HELP gateway_function_invocation_started Calls that ended, with any code." in text
    assert f'\ngateway_function_invocation_started{{function_name="{FN}"}} 3.0\n' in text
    assert "rescoldo_spares_ready 4.0" in text
    assert "rescoldo_spares_wanted 6.0" in text
    assert f'rescoldo_instances{{function_name="{FN}"}} 1.0' in text
    assert f'rescoldo_instance_seconds_total{{function_name="{FN}"}} 2.0' in text


async def test_one_reload_doubles_the_slots_keeps_live_routes_and_lends_the_new_slots_when_done(
    world: World, tmp_path: Path
) -> None:
    settings = Settings(str(tmp_path), str(tmp_path), slots=8)
    settings.pid_file.write_text(str(os.getpid()))
    reloads: list[None] = []
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, lambda: reloads.append(None))
    try:
        await world.deploy()
        await world.edge.call(FN)
        growth = Growth(EdgeReload(settings), world.fleet.routes.edge_state, world.slots)
        growth.finish()
        assert world.slots.size == 8, "no growth was requested"
        growth.start()
        growth.start()
        async with asyncio.timeout(5):
            while not reloads:
                await asyncio.sleep(0.001)
        assert len(reloads) == 1
        text = (settings.edge / "haproxy.cfg").read_text()
        assert "backend s15 from slots" in text
        assert f"server {world.instances()[0]} " in text
        assert (settings.edge / "routes.map").read_text() == f"{FN} {world.awake().slot}\n* 1\n"
        assert settings.slots_file.read_text() == "16"
        assert world.slots.size == 8, "not before the new edge answers"
        growth.finish()
        growth.finish()
        assert world.slots.size == 16
    finally:
        loop.remove_signal_handler(signal.SIGHUP)
