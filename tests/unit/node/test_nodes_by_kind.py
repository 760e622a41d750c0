"""Several nodes as one: a request for an instance goes to its node, others go to all; on virtual time."""

from __future__ import annotations

import asyncio

import pytest

from rescoldo.kinds.protocol import NODE
from rescoldo.kinds.registry import KINDS
from rescoldo.model.calls import FailedCall
from rescoldo.model.errors import NodeUnavailable
from rescoldo.model.instance import Launch
from rescoldo.model.names import FunctionId, InstanceId
from rescoldo.node.by_kind import NodesByKind
from rescoldo.node.fake import FakeNode
from rescoldo.node.protocol import Exit
from support.constant_kind import ConstantKind

pytestmark = pytest.mark.looptime

FN = FunctionId("fn.ns")


class Two:
    """A node for handlers and one for the toy kind, and a function with an instance on each."""

    def __init__(self) -> None:
        self.own, self.other = FakeNode(), FakeNode()
        self.node = NodesByKind({NODE: self.own, "elsewhere": self.other})

    async def start(self) -> None:
        await self.node.start(Launch(InstanceId("a"), FN, "digest"))
        await self.node.start(Launch(InstanceId("b"), FN, "digest", kind=ConstantKind.name))

    async def lines(self, tail: int | None) -> list[str]:
        return [line.text async for line in self.node.logs(FN, tail=tail, since=None, follow=False)]


@pytest.fixture
async def two(monkeypatch: pytest.MonkeyPatch) -> Two:
    monkeypatch.setattr(ConstantKind, "node", "elsewhere")
    monkeypatch.setitem(KINDS, ConstantKind.name, ConstantKind())
    made = Two()
    await made.start()
    return made


async def test_each_instance_runs_on_the_node_of_its_kind(two: Two) -> None:
    assert [launch.instance for launch in two.own.started] == ["a"]
    assert [launch.instance for launch in two.other.started] == ["b"]
    assert [one.launch.instance for one in await two.node.instances()] == ["a", "b"]
    assert [one.instance for one in await two.node.usage(FN)] == ["a", "b"]


async def test_an_instance_is_stopped_where_it_runs(two: Two) -> None:
    await two.node.stop(InstanceId("b"))
    assert (two.own.stopped, two.other.stopped) == ([], ["b"])


async def test_an_instance_of_an_earlier_controller_is_stopped_wherever_it_is(two: Two) -> None:
    after = NodesByKind({NODE: two.own, "elsewhere": two.other})
    await after.stop(InstanceId("b"))
    assert await two.other.instances() == []


async def test_an_adopted_instance_is_stopped_on_the_node_that_listed_it(two: Two) -> None:
    after = NodesByKind({NODE: two.own, "elsewhere": two.other})
    await after.instances()
    await after.stop(InstanceId("b"))
    assert (two.own.stopped, two.other.stopped) == ([], ["b"])


async def test_lines_are_ordered_by_time_and_tail_counts_lines_of_all_nodes(two: Two) -> None:
    for number, (node, instance) in enumerate([(two.own, "a"), (two.other, "b"), (two.own, "a")]):
        await asyncio.sleep(1)
        node.print(FN, InstanceId(instance), str(number))
    assert await two.lines(None) == ["0", "1", "2"]
    assert await two.lines(2) == ["1", "2"]
    assert await two.lines(0) == []


async def test_a_follower_gets_the_lines_of_all_nodes(two: Two) -> None:
    two.own.print(FN, InstanceId("a"), "kept")
    lines = two.node.logs(FN, tail=None, since=None, follow=True)
    assert (await anext(lines)).text == "kept"
    two.other.print(FN, InstanceId("b"), "new")
    assert (await anext(lines)).text == "new"
    two.own.print(FN, InstanceId("a"), "newer")
    assert (await anext(lines)).text == "newer"
    await lines.aclose()  # type: ignore[attr-defined]


async def test_a_follower_gets_an_error_when_a_node_is_unreachable(two: Two) -> None:
    lines = two.node.logs(FN, tail=None, since=None, follow=True)
    following = asyncio.ensure_future(anext(lines))
    await asyncio.sleep(1)
    two.other.reachable = False
    with pytest.raises(NodeUnavailable):
        await following


async def test_a_failed_call_is_explained_by_the_node_of_its_function(two: Two) -> None:
    plain = FunctionId("plain.ns")
    calls = [FailedCall(FN, InstanceId("b"), "1", 2.0, 502), FailedCall(plain, InstanceId("c"), "2", 1.0, 502)]
    await two.node.explain(calls, {FN: 3, plain: 4})
    assert (two.other.explained, two.other.more) == ([calls[0]], {FN: 3})
    assert (two.own.explained, two.own.more) == ([calls[1]], {plain: 4})
    assert [call.instance for call in await two.node.failures(FN)] == ["b"]


async def test_a_function_is_forgotten_on_every_node(two: Two) -> None:
    for node, instance in ((two.own, "a"), (two.other, "b")):
        node.print(FN, InstanceId(instance), "text")
    await two.node.forget(FN)
    assert await two.lines(None) == []


async def test_a_watcher_gets_losses_and_restarts_of_every_node(two: Two) -> None:
    exits: list[Exit] = []
    restarts: list[None] = []
    watching = asyncio.create_task(two.node.watch(exits.append, lambda: restarts.append(None)))
    await asyncio.sleep(1)
    two.own.lose(InstanceId("a"))
    two.other.lose(InstanceId("b"))
    assert [exit.instance for exit in exits] == ["a", "b"]
    two.other.reachable = False
    two.other.reachable = True
    assert len(restarts) == 3
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching
