from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from rescoldo.model.calls import FailedCall
from rescoldo.model.names import FunctionId, InstanceId, function_id
from rescoldo.node.instances import failed_calls as failures
from rescoldo.node.instances.failed_calls import KEPT, LATE, PATIENCE, SILENT, UNREACHED, FailedCalls
from rescoldo.tasks import Tasks

pytestmark = pytest.mark.looptime

FN, OTHER = function_id("fn"), function_id("other")
ONE, TWO = InstanceId("fn-1"), InstanceId("fn-2")


class Node:
    """A log of lines, and instances that run or have ended."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.lines: list[tuple[FunctionId, InstanceId, str]] = []
        self.running = {ONE, TWO}
        self.failures = FailedCalls(self._write, self.running.__contains__, Tasks())
        self._clock = clock

    def _write(self, function: FunctionId, instance: InstanceId, lines: list[str]) -> None:
        self.lines.extend((function, instance, line) for line in lines)

    def call(self, call_id: str = "id", instance: InstanceId = ONE, status: int = 502) -> FailedCall:
        return FailedCall(FN, instance, call_id, self._clock(), status)

    def explain(self, *calls: FailedCall) -> None:
        self.failures.explain(calls, {})

    @property
    def reasons(self) -> list[tuple[str, str]]:
        return [(call.call_id, call.reason) for call in self.failures.recent(FN)]


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Node:
    begun = time.time()
    clock = lambda: begun + asyncio.get_running_loop().time()  # noqa: E731
    monkeypatch.setattr(failures.time, "time", clock)
    return Node(clock)


async def test_an_end_before_the_report_of_a_failed_call_is_its_reason(node: Node) -> None:
    node.failures.note_end(FN, ONE, "exit status 3")
    call = node.call()
    await asyncio.sleep(30)  # the controller is unreachable meanwhile
    node.explain(call)
    await asyncio.sleep(0.01)
    assert node.reasons == [("id", "its instance ended: exit status 3")]
    assert node.lines == [(FN, ONE, "call id failed: its instance ended: exit status 3")]


async def test_an_end_after_the_report_of_a_failed_call_is_its_reason(node: Node) -> None:
    node.explain(node.call())
    await asyncio.sleep(1)
    assert node.reasons == []
    node.failures.note_end(FN, TWO, "exit status 4")
    node.failures.note_end(FN, ONE, "exit status 3")
    await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    assert node.reasons == [("id", "its instance ended: exit status 3")]


async def test_each_of_several_successive_processes_explains_its_own_calls(node: Node) -> None:
    calls = []
    for number in range(3):
        calls.append(node.call(str(number)))
        await asyncio.sleep(0.1)
        node.failures.note_end(FN, ONE, f"exit status {number}")
        await asyncio.sleep(1)
    for call in reversed(calls):
        node.explain(call)
    await asyncio.sleep(0.01)
    assert sorted(node.reasons) == [(str(number), f"its instance ended: exit status {number}") for number in range(3)]


async def test_an_end_that_the_edge_noticed_late_is_the_reason_if_there_is_no_other(node: Node) -> None:
    node.failures.note_end(FN, ONE, "exit status 3")
    await asyncio.sleep(1)
    node.explain(node.call(status=503))
    await asyncio.sleep(PATIENCE + 0.1)
    assert node.reasons == [("id", "its instance ended: exit status 3")]


@pytest.mark.parametrize(("status", "reason"), [(502, SILENT), (503, UNREACHED), (504, LATE)])
async def test_the_end_of_a_past_process_is_not_the_reason_of_a_later_call(
    node: Node, status: int, reason: str
) -> None:
    node.failures.note_end(FN, ONE, "exit status 3")
    await asyncio.sleep(60)
    node.explain(node.call(status=status))
    await asyncio.sleep(PATIENCE + 0.1)
    assert node.reasons == [("id", reason)]


async def test_failed_calls_of_a_removed_function_are_neither_kept_nor_logged(node: Node) -> None:
    call = node.call()
    node.explain(call)
    await asyncio.sleep(0.1)
    node.failures.note_end(FN, TWO, "exit status 4")
    node.running.clear()
    node.failures.forget(FN)
    node.failures.explain([call, replace(call, function=OTHER)], {FN: 3, OTHER: 4})
    await asyncio.sleep(PATIENCE + 1)
    assert node.lines == []
    assert node.reasons == []


async def test_the_last_failed_calls_are_kept_and_the_number_of_others_is_logged(node: Node) -> None:
    calls = [node.call(str(number)) for number in range(KEPT + 5)]
    node.failures.explain(calls, {FN: 7})
    node.failures.note_end(FN, ONE, "exit status 3" + 10_000 * "x" + "\x1b\n")
    await asyncio.sleep(0.01)
    assert [call.call_id for call in node.failures.recent(FN)] == [call.call_id for call in calls[-KEPT:]]
    assert all(len(line) < 500 and line.isprintable() for _, _, line in node.lines)
    assert len([line for _, _, line in node.lines if line.startswith("7 more")]) == 1
    assert len(node.lines) == len(calls) + 1
