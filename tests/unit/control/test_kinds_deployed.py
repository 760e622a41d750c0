"""A function is of the kind that its bundle holds, for the controller that deployed it and for the next."""

from __future__ import annotations

import pytest
from control_world import FN, World

from rescoldo.edge.config import TIMEOUT_MARGIN
from rescoldo.kinds.registry import KINDS
from rescoldo.model.errors import NotFound
from rescoldo.node.fake import FakeNode
from support.constant_kind import ConstantKind

pytestmark = pytest.mark.looptime


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch, world: World) -> World:
    """A platform that has the toy, and whose bundles hold it."""
    monkeypatch.setitem(KINDS, ConstantKind.name, ConstantKind())
    monkeypatch.setattr(type(world.bundles), "kind", lambda *_: ConstantKind.name)
    return world


async def test_its_instances_are_started_as_what_the_bundle_holds(toy: World) -> None:
    await toy.deploy()
    await toy.edge.call(FN)
    assert [launch.kind for launch in toy.node.started] == ["constant"]
    assert toy.edge.routes[FN].response_timeout == 30.0  # of its calls; nobody but the edge ends them


async def test_a_next_controller_finds_it_out_again(toy: World) -> None:
    await toy.deploy()
    after = await toy.restart_controller()
    await after.edge.call(FN)
    assert [launch.kind for launch in after.node.started] == ["constant"]
    await after.close()


async def test_one_whose_bundle_is_gone_counts_as_a_handler(toy: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await toy.deploy()

    def gone(*_: object) -> str:
        raise NotFound("no bundle of this digest is here")

    monkeypatch.setattr(type(toy.bundles), "kind", gone)
    after = await toy.restart_controller()
    assert after.edge.routes[FN].response_timeout == 30.0 + TIMEOUT_MARGIN
    await after.close()


async def test_a_program_is_one_whatever_its_bundle_holds(toy: World) -> None:
    await toy.deploy(upstream="inherited")
    await toy.edge.call(FN)
    assert [(launch.kind, launch.command) for launch in toy.node.started] == [("process", ("./server",))]


async def test_its_instances_come_from_the_node_that_it_names_and_are_stopped_there(
    toy: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = toy.nodes["elsewhere"] = FakeNode()
    monkeypatch.setattr(ConstantKind, "node", "elsewhere")
    await toy.deploy()
    await toy.edge.call(FN)
    await toy.scaling.scale(FN, 0)
    await toy.until(lambda: elsewhere.stopped)
    assert [launch.instance for launch in elsewhere.started] == elsewhere.stopped
    assert toy.node.started == toy.node.stopped == []
