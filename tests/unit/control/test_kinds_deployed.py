"""A function has the kind of its bundle, in the controller that deployed it and in the next."""

from __future__ import annotations

from dataclasses import replace

import pytest
from control_world import FN, IMAGE, World

from rescoldo.edge.config import TIMEOUT_MARGIN
from rescoldo.kinds.registry import KINDS
from rescoldo.model.errors import InvalidInput, NotFound
from rescoldo.model.function import FunctionSpec
from rescoldo.node.fake import FakeNode
from support.constant_kind import ConstantKind

pytestmark = pytest.mark.looptime


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch, world: World) -> World:
    """A platform with the toy kind, and whose bundles have it."""
    monkeypatch.setitem(KINDS, ConstantKind.name, ConstantKind())
    monkeypatch.setattr(type(world.bundles), "kind", lambda *_: ConstantKind.name)
    return world


async def test_instances_start_with_the_kind_of_their_bundle(toy: World) -> None:
    await toy.deploy()
    await toy.edge.call(FN)
    assert [launch.kind for launch in toy.node.started] == ["constant"]
    assert toy.edge.routes[FN].response_timeout == 30.0  # a call's limit: only the edge ends calls


async def test_the_next_controller_knows_the_kind_again(toy: World) -> None:
    await toy.deploy()
    after = await toy.restart_controller()
    await after.edge.call(FN)
    assert [launch.kind for launch in after.node.started] == ["constant"]
    await after.close()


async def test_a_function_whose_bundle_is_gone_counts_as_a_handler(toy: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await toy.deploy()

    def gone(*_: object) -> str:
        raise NotFound("no bundle of this digest is here")

    monkeypatch.setattr(type(toy.bundles), "kind", gone)
    after = await toy.restart_controller()
    assert after.edge.routes[FN].response_timeout == 30.0 + TIMEOUT_MARGIN
    await after.close()


async def test_a_program_is_a_program_whatever_the_kind_of_its_bundle(toy: World) -> None:
    await toy.deploy(upstream="inherited")
    await toy.edge.call(FN)
    assert [(launch.kind, launch.command) for launch in toy.node.started] == [("process", ("./server",))]


async def test_instances_start_and_stop_on_the_node_that_their_kind_names(
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


async def test_the_kind_names_settings_without_effect(toy: World) -> None:
    spec = FunctionSpec("fn", IMAGE, env_process="python index.py")
    await toy.deployments.deploy(spec, must_exist=False, start=False)
    said = ["fprocess: is not run: the answer is a constant"]
    assert toy.deployments.notes(spec) == said
    assert (await toy.statuses.function(FN)).notes == said


async def test_the_kind_decides_whether_a_command_makes_a_new_revision(toy: World) -> None:
    spec = FunctionSpec("fn", IMAGE)
    await toy.deployments.deploy(spec, must_exist=False, start=False)
    # the default command of a handler is no default of a constant
    await toy.deployments.deploy(replace(spec, env_process="python index.py"), must_exist=True, start=False)
    assert toy.fleet.entries[FN].function.revision == 2


async def test_the_kind_sets_the_least_memory_limit(toy: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ConstantKind, "least_memory", 2**20)
    small = FunctionSpec("fn", IMAGE, limits={"memory": "2Mi"})
    await toy.deployments.deploy(small, must_exist=False, start=False)
    assert toy.fleet.entries[FN].policy.limits.memory == 2 * 2**20
    monkeypatch.setattr(ConstantKind, "least_memory", 16 * 2**20)
    with pytest.raises(InvalidInput, match="16"):
        await toy.deployments.deploy(replace(small, limits={"memory": "15Mi"}), must_exist=True, start=False)
